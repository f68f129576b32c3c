//! All nodes and hosts in one place, and virtual time: what happens next is taken from one queue, in the order of its time and then of
//! its making. Nothing waits, nothing runs beside anything else.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use millpond_mailbox::{
    host_protocol::Cursor,
    mailbox::MailboxSecret,
    session::{DepositId, Outcome},
    stamp::{MailboxId, Serial},
    time::UnixMillis,
};
use ruma::OwnedEventId;

use super::{
    checks::Checks,
    fate::{Fate, Killed},
    host::{MailHost, Page},
    ledger::Ledger,
    node::{Fixed, Node, Out, Step},
    plan::{DAY, HOUR, MINUTE, Plan, SECOND},
    random::SimRng,
    stats::Stats,
    trace::Trace,
    verdict::{self, When},
};

mod acts;
mod faults;
mod meetings;
mod setup;

pub use setup::START;

/// Everything there is.
pub struct World {
    /// What was planned.
    pub plan: Plan,
    /// True time.
    pub now: u64,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// The mailbox hosts.
    pub hosts: Vec<MailHost>,
    /// What does not change.
    pub fixed: Fixed,
    /// What was accepted, and must be everywhere.
    pub ledger: Ledger,
    /// What happened.
    pub trace: Trace,
    /// Counts.
    pub stats: Stats,
    queue: BTreeMap<(u64, u64), Happening>,
    next: u64,
    checks: Checks,
    fate: Fate,
    rng: SimRng,
    owners: HashMap<MailboxId, usize>,
    /// Nodes that cannot reach a host, and until when.
    cuts: BTreeMap<(usize, usize), u64>,
    /// Nodes that are away, and until when.
    away: BTreeMap<usize, u64>,
    backups: BTreeMap<usize, faults::Kept>,
    /// When the network healed.
    healed: Option<u64>,
}

/// Something that is going to happen.
enum Happening {
    Put { node: usize, life: u32, peer: usize, deposit: DepositId, host: usize, bytes: Vec<u8>, answer_by: Option<u64> },
    Outcome { node: usize, life: u32, peer: usize, deposit: DepositId, outcome: Outcome },
    Fetch { node: usize, life: u32, host: usize, secret: Box<MailboxSecret>, after: Cursor, answer_by: u64 },
    Page { node: usize, life: u32, mailbox: MailboxId, page: Option<Page> },
    Delete { node: usize, life: u32, host: usize, secret: Box<MailboxSecret>, serials: Vec<Serial> },
    Wake { node: usize, life: u32, at: u64 },
    Announced { node: usize, mailbox: MailboxId },
    Start { node: usize },
    Look { node: usize },
    Day,
    Act(acts::Act),
    Fault(faults::Fault),
    Meet { one: usize, other: usize },
    Heal,
    Close,
}

impl World {
    /// Runs until everything is everywhere or the time is over. Says whether it is.
    pub fn run(&mut self) -> bool {
        let end = START + (self.plan.days + self.plan.heal_days) * DAY;
        let mut look = START + self.plan.days * DAY + DAY;
        while let Some((&(at, _), _)) = self.queue.first_key_value() {
            if at >= look {
                self.now = look;
                look += HOUR;
                if self.healed.is_none() || !self.is_settled(When::BranchesOpen) {
                    continue;
                }
                let open = verdict::open_branches(self);
                if open.is_empty() {
                    self.stats.healed_ms = self.now - self.healed.unwrap_or(self.now);
                    break;
                }
                self.say_on(open);
                continue;
            }
            if at > end {
                break;
            }
            self.now = at;
            if let Some((_, happening)) = self.queue.pop_first() {
                self.happen(happening);
            }
        }
        self.stats.kills = self.fate.kills;
        self.stats.failures = self.fate.failures;
        self.is_settled(When::AllSaid)
    }

    fn is_settled(&self, when: When) -> bool {
        self.closed() && self.nodes.iter().all(Node::is_up) && verdict::faults(self, when).is_empty()
    }

    /// Whether the last things were said, and there was time to hear them.
    fn closed(&self) -> bool {
        self.healed.is_some_and(|healed| self.now > healed + DAY)
    }

    fn at(&mut self, at: u64, happening: Happening) {
        self.next += 1;
        self.queue.insert((at, self.next), happening);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Put { node, life, peer, deposit, host, bytes, answer_by } => {
                self.on_put((node, life), (peer, deposit), host, bytes, answer_by);
            }
            Happening::Outcome { node, life, peer, deposit, outcome } if self.lives(node, life) => {
                self.step(node, |node, step| node.on_outcome(peer, deposit, outcome, step));
            }
            Happening::Fetch { node, life, host, secret, after, answer_by } => {
                self.on_fetch((node, life), host, &secret, after, answer_by);
            }
            Happening::Page { node, life, mailbox, page } if self.lives(node, life) => {
                self.step(node, |node, step| node.on_page(mailbox, page, step));
            }
            Happening::Delete { node, life, host, secret, serials } => {
                let done = !self.is_cut(node, host) && self.hosts[host].delete(&secret, &serials, UnixMillis(self.now));
                if !done && self.lives(node, life) {
                    self.nodes[node].on_undeleted(secret.id(), serials);
                }
            }
            Happening::Wake { node, life, at } if self.lives(node, life) => {
                self.step(node, |node, step| node.wake(at, step));
            }
            Happening::Announced { node, mailbox } => self.on_announced(node, mailbox),
            Happening::Start { node } => self.start(node),
            Happening::Look { node } => self.look(node),
            Happening::Day => self.day(),
            Happening::Act(act) => self.act(act),
            Happening::Fault(fault) => self.fault(fault),
            Happening::Meet { one, other } => self.meet(one, other),
            Happening::Heal => self.heal(),
            Happening::Close => self.close(),
            // For a node that was killed since.
            Happening::Outcome { .. } | Happening::Page { .. } | Happening::Wake { .. } => {}
        }
    }

    fn lives(&self, node: usize, life: u32) -> bool {
        self.nodes[node].life == life && self.nodes[node].is_up()
    }

    /// One step of a node: what leaves it is sent, and if it dies, it is started again later.
    fn step(&mut self, index: usize, work: impl FnOnce(&mut Node, &mut Step<'_>) -> Result<(), Killed>) -> bool {
        let mut out = Vec::new();
        let mut step = Step {
            now: self.now,
            fate: &mut self.fate,
            trace: &mut self.trace,
            checks: &mut self.checks,
            out: &mut out,
            stats: &mut self.stats,
            fixed: &self.fixed,
        };
        let lived = work(&mut self.nodes[index], &mut step).is_ok();
        self.send(index, out);
        if !lived {
            self.trace.note(self.now, format_args!("{index} is killed"));
            self.nodes[index].stop();
            let mean = self.plan.faults.down;
            let long = mean >= MINUTE && self.rng.chance(100);
            let down = self.rng.wait(if long { 6 * HOUR } else { mean });
            self.at(self.now + SECOND + down, Happening::Start { node: index });
        }
        lived
    }

    fn send(&mut self, node: usize, out: Vec<Out>) {
        let (life, now) = (self.nodes[node].life, self.now);
        for out in out {
            match out {
                Out::Put { peer, deposit, host, bytes } => {
                    let host = self.fixed.hosts.iter().position(|known| *known == host).unwrap_or(0);
                    self.send_put((node, life), (peer, deposit), host, bytes);
                }
                Out::Fetch { host, secret, after } => {
                    let lost = self.is_cut(node, host) || self.lost();
                    let arrives = now + self.delay();
                    if lost {
                        let page = Happening::Page { node, life, mailbox: secret.id(), page: None };
                        self.at(now + TIMEOUT, page);
                    } else {
                        self.at(
                            arrives,
                            Happening::Fetch { node, life, host, secret, after, answer_by: now + TIMEOUT },
                        );
                    }
                }
                Out::Delete { host, secret, serials } => {
                    let arrives = now + self.delay();
                    self.at(arrives, Happening::Delete { node, life, host, secret, serials });
                }
                Out::Wake { at } => self.at(at.max(now + 1), Happening::Wake { node, life, at }),
            }
        }
    }

    fn send_put(
        &mut self,
        (node, life): (usize, u32),
        (peer, deposit): (usize, DepositId),
        host: usize,
        bytes: Vec<u8>,
    ) {
        let by = self.now + TIMEOUT;
        if self.is_cut(node, host) || self.lost() {
            self.at(by, Happening::Outcome { node, life, peer, deposit, outcome: Outcome::Unreachable });
            return;
        }
        if self.healed.is_none() && self.rng.chance(self.plan.faults.repeat) {
            let again = self.now + self.delay() + self.delay();
            let bytes = bytes.clone();
            self.at(again, Happening::Put { node, life, peer, deposit, host, bytes, answer_by: None });
        }
        let arrives = self.now + self.delay();
        self.at(arrives, Happening::Put { node, life, peer, deposit, host, bytes, answer_by: Some(by) });
    }

    fn on_put(
        &mut self,
        (node, life): (usize, u32),
        (peer, deposit): (usize, DepositId),
        host: usize,
        bytes: Vec<u8>,
        answer_by: Option<u64>,
    ) {
        let put = self.hosts[host].put(bytes, UnixMillis(self.now));
        self.stats.deposits += 1;
        self.trace.note(self.now, format_args!("host {host}: {node} -> {peer} {:?}", put.outcome));
        if let Some(mailbox) = put.fresh
            && let Some(owner) = self.owners.get(&mailbox).copied()
            && !(self.healed.is_none() && self.rng.chance(self.plan.faults.deaf))
        {
            let at = self.now + self.delay();
            self.at(at, Happening::Announced { node: owner, mailbox });
        }
        let Some(by) = answer_by else { return };
        let answers = self.now + self.delay();
        let lost = self.healed.is_none() && self.rng.chance(self.plan.faults.lose_answer);
        let (at, outcome) =
            if lost || answers > by { (by.max(self.now), Outcome::Unreachable) } else { (answers, put.outcome) };
        self.at(at, Happening::Outcome { node, life, peer, deposit, outcome });
    }

    fn on_fetch(&mut self, (node, life): (usize, u32), host: usize, secret: &MailboxSecret, after: Cursor, by: u64) {
        let page = self.hosts[host].fetch(secret, after, UnixMillis(self.now));
        let answers = self.now + self.delay();
        let lost = self.healed.is_none() && self.rng.chance(self.plan.faults.lose_answer);
        let (at, page) = if lost || answers > by { (by.max(self.now), None) } else { (answers, page) };
        self.at(at, Happening::Page { node, life, mailbox: secret.id(), page });
    }

    fn on_announced(&mut self, node: usize, mailbox: MailboxId) {
        let Some(own) = self.nodes[node].disk.mailboxes.get(&mailbox) else { return };
        // A recovery mailbox is polled once a day and not listened to.
        if own.shown.recovery || self.is_cut(node, own.host) {
            return;
        }
        self.step(node, |node, step| {
            node.poll(mailbox, step);
            Ok(())
        });
    }

    fn start(&mut self, node: usize) {
        if self.nodes[node].is_up() || self.away.get(&node).is_some_and(|until| self.now < *until) {
            return;
        }
        self.renew_mailboxes(node);
        self.step(node, Node::start);
    }

    /// Now and then a node reads its mailboxes whatever it was told, and looks at its links.
    fn look(&mut self, node: usize) {
        let next = self.now + 4 * HOUR + self.rng.wait(2 * HOUR);
        self.at(next, Happening::Look { node });
        if !self.nodes[node].is_up() {
            return;
        }
        self.renew_mailboxes(node);
        let own = self.nodes[node].disk.mailboxes.values();
        let there = own.filter(|own| self.hosts[own.host].has_mail(&own.shown.id));
        let ids: Vec<MailboxId> = there.map(|own| own.shown.id).collect();
        self.step(node, |node, step| {
            ids.into_iter().for_each(|id| node.poll(id, step));
            node.look(step);
            Ok(())
        });
    }

    /// Hosts forget what is over.
    fn day(&mut self) {
        let now = UnixMillis(self.now);
        self.hosts.iter_mut().for_each(|host| host.tick(now));
        self.at(self.now + DAY, Happening::Day);
    }

    fn renew_mailboxes(&mut self, node: usize) {
        for (host, recovery) in self.nodes[node].wanted_mailboxes(self.now) {
            if !self.is_cut(node, host) {
                self.nodes[node].open_mailbox(host, &mut self.hosts[host], recovery, self.now);
            }
        }
        self.owners.extend(self.nodes[node].disk.mailboxes.keys().map(|id| (*id, node)));
    }

    fn is_cut(&self, node: usize, host: usize) -> bool {
        self.cuts.get(&(node, host)).is_some_and(|until| self.now < *until)
    }

    fn lost(&mut self) -> bool {
        self.healed.is_none() && self.rng.chance(self.plan.faults.lose)
    }

    /// How long a message is on its way: mostly short, sometimes very long, so that later ones overtake it.
    fn delay(&mut self) -> u64 {
        if self.healed.is_some() {
            return self.rng.between(50, 500);
        }
        let most = self.plan.faults.delay.max(100);
        if self.rng.chance(900) {
            self.rng.between(most / 100, most / 4).min(15 * SECOND)
        } else {
            self.rng.between(most / 100, most)
        }
    }

    /// The network heals: from now on only the Byzantine do wrong.
    fn heal(&mut self) {
        self.trace.note(self.now, format_args!("the network heals"));
        self.healed = Some(self.now);
        self.fate.end();
        self.cuts.clear();
        self.away.clear();
        for host in &mut self.hosts {
            host.up = true;
        }
        for node in 0..self.nodes.len() {
            self.start(node);
        }
        self.at(self.now + HOUR, Happening::Close);
        self.meet_daily();
    }
}

/// A user's act that was accepted.
pub(super) enum Accepted {
    Event(usize, OwnedEventId),
    Message(usize, u64),
}

impl World {
    /// Who can be believed.
    #[must_use]
    pub fn honest(&self) -> BTreeSet<usize> {
        self.nodes.iter().filter(|node| !node.byzantine).map(|node| node.index).collect()
    }
}

/// How long a node waits for a host, as in the driver.
const TIMEOUT: u64 = 60 * SECOND;
