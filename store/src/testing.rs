//! A disk for tests: it keeps only what was synced, remembers every write, and can lose its power at any sync or be full.
//!
//! ```text
//!  write write SYNC 1 write set_len write SYNC 2 write ...
//!                   `-- cut 1: all before this sync is there; of what came after it nothing, or torn pieces
//! ```

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use redb::StorageBackend;

/// The disk; clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<Mutex<State>>);

/// What becomes of writes that were not synced when the power went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsynced {
    /// Nothing of them is there.
    Lost,
    /// Sectors of them are there, in an order that this seed chooses; of each one that was written twice, either.
    Torn(u64),
}

#[derive(Debug, Default)]
struct State {
    image: Vec<u8>,
    journal: Vec<Op>,
    syncs: usize,
    /// The sync that fails, and everything after it.
    cut: Option<usize>,
    /// How many more operations that change the disk find room.
    room: Option<u64>,
}

#[derive(Clone, Debug)]
enum Op {
    Write(usize, Vec<u8>),
    SetLen(usize),
    Sync,
}

/// Bytes that a disk writes whole or not at all.
const SECTOR: usize = 512;

impl Disk {
    /// How many syncs were done.
    pub fn syncs(&self) -> usize {
        self.state().syncs
    }

    /// Cuts the power when `syncs` are done and the next one is asked for.
    pub fn cut_after(&self, syncs: usize) {
        self.state().cut = Some(syncs);
    }

    /// Whether the power is off.
    pub fn is_cut(&self) -> bool {
        let state = self.state();
        state.cut.is_some_and(|cut| state.syncs > cut)
    }

    /// Lets so many more writes, changes of length and syncs succeed; then the disk is full.
    pub fn fill_after(&self, operations: u64) {
        self.state().room = Some(operations);
    }

    /// Makes room again.
    pub fn free(&self) {
        self.state().room = None;
    }

    /// Whether somebody found the disk full since [`Disk::fill_after`].
    pub fn is_full(&self) -> bool {
        self.state().room == Some(0)
    }

    /// The disk as it is found after the power went at each sync: with 0, 1, 2 ... syncs done. The last one has all that
    /// was ever synced.
    pub fn cuts(&self) -> impl Iterator<Item = Cut> + use<> {
        let journal = self.state().journal.clone();
        let segments: Vec<Vec<Op>> = journal.split(|op| matches!(op, Op::Sync)).map(<[Op]>::to_vec).collect();
        let mut synced = Vec::new();
        segments.into_iter().enumerate().map(move |(syncs, unsynced)| {
            let image = synced.clone();
            unsynced.iter().for_each(|op| apply(&mut synced, op));
            Cut { syncs, image, unsynced }
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, op: Op) -> io::Result<()> {
        let mut state = self.state();
        state.powered()?;
        match &mut state.room {
            Some(0) => return Err(io::ErrorKind::StorageFull.into()),
            Some(room) => *room -= 1,
            None => {}
        }
        if matches!(op, Op::Sync) {
            state.syncs += 1;
            state.powered()?;
        }
        apply(&mut state.image, &op);
        state.journal.push(op);
        Ok(())
    }
}

impl State {
    fn powered(&self) -> io::Result<()> {
        match self.cut {
            Some(cut) if self.syncs > cut => Err(io::Error::other("the power is off")),
            _ => Ok(()),
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        let state = self.state();
        state.powered()?;
        Ok(state.image.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        state.powered()?;
        let from = position(offset)?;
        let bytes = state.image.get(from..from + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Op::SetLen(position(len)?))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(Op::Sync)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(Op::Write(position(offset)?, data.to_vec()))
    }
}

/// What the power left on a disk.
pub struct Cut {
    /// How many syncs were done.
    pub syncs: usize,
    image: Vec<u8>,
    unsynced: Vec<Op>,
}

impl Cut {
    /// A disk with power again.
    pub fn disk(&self, unsynced: Unsynced) -> Disk {
        let mut image = self.image.clone();
        if let Unsynced::Torn(seed) = unsynced {
            tear(&mut image, &self.unsynced, &mut Random(seed ^ self.syncs as u64));
        }
        Disk(Arc::new(Mutex::new(State { image, ..State::default() })))
    }
}

/// Lets some of the unsynced sectors reach the disk, in any order. Lengths are the file system's own records, which it
/// keeps in order: of them the first few are there.
fn tear(image: &mut Vec<u8>, unsynced: &[Op], random: &mut Random) {
    let mut sectors = Vec::new();
    let mut lengths = Vec::new();
    for op in unsynced {
        match op {
            Op::Write(offset, bytes) => sectors.extend(in_sectors(*offset, bytes)),
            Op::SetLen(len) => lengths.push(*len),
            Op::Sync => {}
        }
    }
    let kept = random.below(lengths.len() + 1);
    lengths[..kept].iter().for_each(|len| image.resize(*len, 0));
    while !sectors.is_empty() {
        let (offset, bytes) = sectors.swap_remove(random.below(sectors.len()));
        if random.below(2) == 1
            && let Some(there) = image.get_mut(offset..offset + bytes.len())
        {
            there.copy_from_slice(bytes);
        }
    }
}

fn in_sectors(offset: usize, bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = offset + at;
        let len = (SECTOR - start % SECTOR).min(bytes.len() - at);
        let piece = &bytes[at..at + len];
        at += len;
        (len > 0).then_some((start, piece))
    })
}

fn apply(image: &mut Vec<u8>, op: &Op) {
    match op {
        Op::Write(offset, bytes) => {
            let end = offset + bytes.len();
            if image.len() < end {
                image.resize(end, 0);
            }
            image[*offset..end].copy_from_slice(bytes);
        }
        Op::SetLen(len) => image.resize(*len, 0),
        Op::Sync => {}
    }
}

fn position(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

/// SplitMix64: the same seed gives the same disk.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }
}
