//! The sessions of a node: feeding them, and doing what they return in the order in which they return it - first the commit.

use std::collections::BTreeSet;

use millpond_mailbox::{
    schedule,
    secrets::LinkId,
    session::{Arrived, Commit, Context, Handle, InEvent, MapRows, Notice, OutEvent, RowKey, Rows, Session},
    stamp::{MailboxId, Serial},
    time::UnixMillis,
};
use zeroize::Zeroizing;

use super::{Fixed, Node, Out, Step};
use crate::sim::{fate::Killed, host::Page};

/// A session with what it wants on disk and is not there yet.
pub(super) struct Carried {
    pub(super) session: Session,
    /// Commits that may wait, until one that may not comes.
    lazy: Vec<Commit>,
    /// Rows of the outbox that it knows.
    pub(super) offered: BTreeSet<u64>,
    /// When it wants a slot, by the node's clock.
    pub(super) due: Option<UnixMillis>,
    /// Less was offered than is owed: as the node (`node/src/outbox.rs`), it offers more as soon as something is done.
    pub(super) cut: bool,
    /// Something was done since.
    more: bool,
}

/// The disk with what waits for it.
struct Seen<'a> {
    lazy: &'a [Commit],
    disk: &'a MapRows,
}

/// What is done, as numbers.
struct Handles<'a>(&'a [Handle]);

impl std::fmt::Debug for Handles<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|handle| handle.0)).finish()
    }
}

impl Rows for Seen<'_> {
    fn row(&self, key: RowKey) -> Option<Zeroizing<Vec<u8>>> {
        for commit in self.lazy.iter().rev() {
            if let Some((_, bytes)) = commit.put.iter().rev().find(|(put, _)| *put == key) {
                return Some(bytes.clone());
            }
            if commit.delete.contains(&key) {
                return None;
            }
        }
        self.disk.row(key)
    }
}

impl Carried {
    /// Reads a session as a start does.
    pub(super) fn read(rows: &MapRows) -> Self {
        let record = rows.0.get(&RowKey::Record).expect("a session has a record");
        let session = Session::from_record(record).expect("what was stored can be read");
        Self { session, lazy: Vec::new(), offered: BTreeSet::new(), due: None, cut: false, more: false }
    }

    pub(super) fn link(&self) -> LinkId {
        self.session.link()
    }
}

impl Node {
    /// Looks at every session again: some things come with time alone.
    pub fn look(&mut self, step: &mut Step<'_>) {
        let (now, shown) = (self.clock(step.now), self.disk.shown());
        if let Some(memory) = &mut self.memory {
            memory.sessions.values_mut().for_each(|carried| carried.due = carried.session.wants_slot(now, &shown));
        }
        self.set_wake(step);
    }

    /// Feeds a session of a node that does not run yet.
    pub fn prepare(&mut self, peer: usize, event: InEvent, fixed: &Fixed, now: u64) {
        let (now, shown) = (self.clock(now), self.disk.shown());
        let Some(rows) = self.disk.sessions.get_mut(&peer) else { return };
        let mut session = Carried::read(rows).session;
        let identity = &fixed.people[self.index].identity;
        let effects = session.handle(&Context { now, identity, mailboxes: &shown, rows }, event, &mut self.rng);
        for effect in effects {
            if let OutEvent::Persist(commit) = effect {
                rows.apply(&commit);
            }
        }
    }

    /// Feeds a session and does what it returns; `used` are the serials of what arrived, committed together with it. Says whether
    /// everything was kept.
    pub(super) fn feed(
        &mut self,
        peer: usize,
        event: InEvent,
        used: &[(MailboxId, Serial)],
        step: &mut Step<'_>,
    ) -> Result<bool, Killed> {
        let (now, shown) = (self.clock(step.now), self.disk.shown());
        let Some(carried) = self.memory.as_mut().and_then(|memory| memory.sessions.get_mut(&peer)) else {
            return Ok(false);
        };
        let nothing = MapRows::default();
        let effects = {
            let disk = self.disk.sessions.get(&peer).unwrap_or(&nothing);
            let rows = Seen { lazy: &carried.lazy, disk };
            let identity = &step.fixed.people[self.index].identity;
            let ctx = Context { now, identity, mailboxes: &shown, rows: &rows };
            carried.session.handle(&ctx, event, &mut self.rng)
        };
        let kept = self.perform(peer, effects, used, step)?;
        if let Some(carried) = self.memory.as_mut().and_then(|memory| memory.sessions.get_mut(&peer)) {
            carried.due = carried.session.wants_slot(now, &shown);
            if std::mem::take(&mut carried.more) {
                carried.due = Some(now);
            }
        }
        Ok(kept)
    }

    fn perform(
        &mut self,
        peer: usize,
        effects: Vec<OutEvent>,
        used: &[(MailboxId, Serial)],
        step: &mut Step<'_>,
    ) -> Result<bool, Killed> {
        let mut noted = used.is_empty();
        for effect in effects {
            match effect {
                OutEvent::Persist(commit) => {
                    if !self.persist(peer, commit, used, step)? {
                        return Ok(false);
                    }
                    noted = true;
                }
                OutEvent::Deposit { id, host, bytes } => {
                    step.fate.step()?;
                    step.trace.note(
                        step.now,
                        format_args!("{} -> {peer}: deposit {}.{} of {}", self.index, id.flight, id.copy, bytes.len()),
                    );
                    step.out.push(Out::Put { peer, deposit: id, host, bytes });
                }
                OutEvent::Notice(notice) => self.on_notice(peer, notice, step)?,
            }
        }
        if !noted {
            step.fate.step()?;
            self.disk.note_used(used);
            step.fate.step()?;
        }
        Ok(true)
    }

    fn persist(
        &mut self,
        peer: usize,
        commit: Commit,
        used: &[(MailboxId, Serial)],
        step: &mut Step<'_>,
    ) -> Result<bool, Killed> {
        step.fate.step()?;
        let Some(carried) = self.memory.as_mut().and_then(|memory| memory.sessions.get_mut(&peer)) else {
            return Ok(false);
        };
        if commit.may_wait && step.fixed.lazy && used.is_empty() {
            carried.lazy.push(commit);
            return Ok(true);
        }
        if step.fate.disk_fails() {
            step.trace.note(step.now, format_args!("{} -> {peer}: a commit fails", self.index));
            self.reread(peer);
            return Ok(false);
        }
        step.stats.commits += 1;
        step.trace.note(step.now, format_args!("{} -> {peer}: {commit:?} {:?}", self.index, Handles(&commit.done)));
        let rows = self.disk.sessions.entry(peer).or_default();
        carried.more |= carried.cut && !commit.done.is_empty();
        carried.lazy.drain(..).for_each(|lazy| rows.apply(&lazy));
        rows.apply(&commit);
        for delivered in commit.deliver {
            self.disk.stage(peer, delivered.item);
        }
        if let Some(outbox) = self.disk.outbox.get_mut(&peer) {
            commit.done.iter().for_each(|handle| drop(outbox.remove(&handle.0)));
        }
        self.disk.note_used(used);
        step.fate.step()?;
        Ok(true)
    }

    /// After a commit that failed: what is on disk counts.
    fn reread(&mut self, peer: usize) {
        let (Some(memory), Some(rows)) = (&mut self.memory, self.disk.sessions.get(&peer)) else { return };
        memory.sessions.insert(peer, Carried::read(rows));
    }

    fn on_notice(&mut self, peer: usize, notice: Notice, step: &mut Step<'_>) -> Result<(), Killed> {
        step.trace.note(step.now, format_args!("{} -> {peer}: {notice:?}", self.index));
        match notice {
            Notice::Restored => {
                step.stats.hellos += 1;
                self.renewed.insert(peer);
                if let Some(carried) = self.memory.as_mut().and_then(|memory| memory.sessions.get_mut(&peer)) {
                    carried.offered.clear();
                }
                self.post(peer, step)?;
            }
            Notice::Dormant => step.stats.dormant += 1,
            Notice::NoWayBack => step.stats.no_way_back += 1,
            Notice::Misbehaved(_) => step.stats.misbehaved += 1,
            _ => {}
        }
        Ok(())
    }

    /// Every session whose time has come.
    pub(super) fn slots(&mut self, step: &mut Step<'_>) -> Result<(), Killed> {
        let now = self.clock(step.now);
        let paced = matches!(self.mode, schedule::Mode::Paced { .. });
        let Some(memory) = &self.memory else { return Ok(()) };
        if paced && !memory.slot_wanted && memory.slot <= now {
            let slot = schedule::next_slot(self.mode, now, &mut self.rng);
            if let Some(memory) = &mut self.memory {
                memory.slot = slot;
            }
        }
        let Some(memory) = &mut self.memory else { return Ok(()) };
        if paced && memory.slot > now {
            memory.want_slot();
            return Ok(());
        }
        let due = memory.sessions.iter().filter(|(_, carried)| carried.due.is_some_and(|due| due <= now));
        let due: Vec<usize> = due.map(|(peer, _)| *peer).collect();
        for peer in due {
            self.post(peer, step)?;
            self.grant(peer, step)?;
            self.feed(peer, InEvent::Slot, &[], step)?;
        }
        if paced {
            let slot = schedule::next_slot(self.mode, now, &mut self.rng);
            if let Some(memory) = &mut self.memory {
                memory.slot = slot;
                memory.want_slot();
            }
        }
        Ok(())
    }

    /// A page of a mailbox, or none.
    ///
    /// # Errors
    /// When it dies.
    pub fn on_page(&mut self, mailbox: MailboxId, page: Option<Page>, step: &mut Step<'_>) -> Result<(), Killed> {
        let again = self.end_poll(mailbox);
        let page = match page {
            Some(Page::Mail(page)) => page,
            Some(Page::Refused) => {
                self.lose(mailbox);
                return Ok(());
            }
            None => return Ok(()),
        };
        let (of_links, mut gone) = self.judge(mailbox, &page, step);
        let mut all_kept = true;
        for (peer, (arrived, serials)) in of_links {
            let used: Vec<(MailboxId, Serial)> = serials.iter().map(|serial| (mailbox, *serial)).collect();
            step.trace.note(step.now, format_args!("{} <- {peer}: {} envelopes", self.index, arrived.len()));
            match self.take_arrived(peer, arrived, &used, step)? {
                true => gone.extend(serials),
                false => all_kept = false,
            }
        }
        let more = page.more && all_kept;
        if all_kept {
            self.set_cursor(mailbox, page.next);
        }
        self.delete(mailbox, gone, step)?;
        self.work(step)?;
        if more || again || !all_kept {
            self.poll(mailbox, step);
        }
        self.set_wake(step);
        Ok(())
    }

    fn take_arrived(
        &mut self,
        peer: usize,
        arrived: Vec<Arrived>,
        used: &[(MailboxId, Serial)],
        step: &mut Step<'_>,
    ) -> Result<bool, Killed> {
        if self.memory.as_ref().is_some_and(|memory| memory.sessions.contains_key(&peer)) {
            return self.feed(peer, InEvent::Arrived(arrived), used, step);
        }
        step.fate.step()?;
        self.disk.note_used(used);
        Ok(true)
    }
}
