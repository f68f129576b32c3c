//! Sets of serials: 2^16 bits. The host's of spent ones, the owner's of those issued and those received.

use rand_core::CryptoRng;

use crate::stamp::Serial;

/// Which of the serials of a mailbox are in it.
#[derive(Clone, PartialEq, Eq)]
pub struct SerialSet {
    bits: Box<[u8; BYTES]>,
}

impl SerialSet {
    /// An empty set.
    #[must_use]
    pub fn new() -> Self {
        Self { bits: Box::new([0; BYTES]) }
    }

    /// Reads the 8,192 bytes that `as_bytes` gave. `None`: another length.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self { bits: Box::new(bytes.try_into().ok()?) })
    }

    /// The set as 8,192 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bits.as_slice()
    }

    /// Whether the serial is in it.
    #[must_use]
    pub fn contains(&self, serial: Serial) -> bool {
        let (byte, bit) = place(serial);
        self.bits[byte] & bit != 0
    }

    /// Puts the serial in. `false`: it was there.
    pub fn insert(&mut self, serial: Serial) -> bool {
        let (byte, bit) = place(serial);
        let fresh = self.bits[byte] & bit == 0;
        self.bits[byte] |= bit;
        fresh
    }

    /// How many are in it, counted anew: a counter beside the bits was lost by the optimiser of rustc 1.95 where this is inlined.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.bits.iter().map(|byte| byte.count_ones()).sum()
    }

    /// Whether none is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bits.iter().all(|byte| *byte == 0)
    }
}

impl Default for SerialSet {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for SerialSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SerialSet({})", self.len())
    }
}

/// Draws serials that were never issued, at random, and marks them issued. `None`: the mailbox is nearly used up; take a new
/// one into use.
pub fn draw_serials(issued: &mut SerialSet, count: usize, rng: &mut impl CryptoRng) -> Option<Vec<Serial>> {
    if issued.len() as usize + count > MAX_ISSUED {
        return None;
    }
    let mut drawn = Vec::with_capacity(count);
    while drawn.len() < count {
        // The low half of 32 bits: each serial is as likely as any other.
        let serial = Serial((rng.next_u32() & 0xffff) as u16);
        if issued.insert(serial) {
            drawn.push(serial);
        }
    }
    Some(drawn)
}

fn place(serial: Serial) -> (usize, u8) {
    (usize::from(serial.0 >> 3), 1 << (serial.0 & 7))
}

const BYTES: usize = 1 << 13;
/// Of 65,536. Beyond it a draw takes more than 16 tries on average.
const MAX_ISSUED: usize = 61_440;
