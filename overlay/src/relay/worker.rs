//! The one thread that runs the host's machine: takes what has come, lets the machine decide, commits once, and only then
//! sends the answers.

use std::collections::HashMap;
use std::sync::Arc;

use millpond_mailbox::host::{Host, HostLimits, HostStore, InEvent, OutEvent, StreamId};
use millpond_mailbox::host_key::HostKey;
use millpond_mailbox::host_protocol::{Answer, Request, Seq};
use millpond_mailbox::mailbox::HostNonce;
use millpond_mailbox::token::TokenSecret;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clock;

/// What comes to the worker.
pub(super) enum Work {
    /// A stream passed its handshake.
    Opened { stream: StreamId, nonce: HostNonce, answers: Answers },
    /// Anything else.
    Event(InEvent),
}

/// Where the answers to one stream go.
#[derive(Clone)]
pub(super) struct Answers {
    pub(super) queue: mpsc::Sender<(Seq, Arc<Answer>)>,
    /// Cancelled when the stream is to close after what was queued.
    pub(super) close: CancellationToken,
}

pub(super) struct Worker {
    host: Host,
    store: Box<dyn HostStore>,
    streams: HashMap<StreamId, Answers>,
}

impl Worker {
    pub(super) fn new(key: HostKey, tokens: TokenSecret, limits: HostLimits, store: Box<dyn HostStore>) -> Self {
        Self { host: Host::new(key, tokens, limits), store, streams: HashMap::new() }
    }

    /// The thread's loop; ends when all senders are gone.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Work>) {
        let mut again = false;
        loop {
            let first = if again { None } else { Some(queue.blocking_recv()) };
            match self.next(first, &mut queue) {
                Some(more) => again = more,
                None => return,
            }
        }
    }

    /// The same as a task.
    #[cfg(test)]
    pub(super) async fn run_here(mut self, mut queue: mpsc::Receiver<Work>) {
        let mut again = false;
        loop {
            let first = if again { None } else { Some(queue.recv().await) };
            match self.next(first, &mut queue) {
                Some(more) => again = more,
                None => return,
            }
        }
    }

    /// One group: `first` and what waits behind it, or another tick. None: all senders are gone; true: the machine wants a tick at once.
    fn next(&mut self, first: Option<Option<Work>>, queue: &mut mpsc::Receiver<Work>) -> Option<bool> {
        let mut group = Vec::new();
        match first {
            Some(first) => self.admit(first?, &mut group),
            None => group.push(InEvent::Tick),
        }
        while group.len() < GROUP_MAX
            && let Ok(next) = queue.try_recv()
        {
            self.admit(next, &mut group);
        }
        Some(self.commit(group))
    }

    fn admit(&mut self, work: Work, group: &mut Vec<InEvent>) {
        match work {
            Work::Opened { stream, nonce, answers } => {
                self.streams.insert(stream, answers);
                group.push(InEvent::Opened { stream, nonce });
            }
            Work::Event(event) => group.push(event),
        }
    }

    /// Runs a group in one commit. True: the machine wants another tick at once.
    fn commit(&mut self, group: Vec<InEvent>) -> bool {
        let asked: Vec<(StreamId, Seq)> = group.iter().filter_map(asked).collect();
        let gone: Vec<StreamId> = group.iter().filter_map(gone).collect();
        let (mut out, now, mut rng) = (Vec::new(), clock::now(), clock::random());
        let (host, mut events) = (&mut self.host, Some(group));
        let done = self.store.write(&mut |rows| {
            for event in events.take().into_iter().flatten() {
                out.extend(host.handle(rows, event, now, &mut rng)?);
            }
            Ok(())
        });
        let again = match done {
            Ok(()) => self.carry_out(out),
            Err(error) => {
                tracing::warn!(%error, "the host could not write to its disk; depositors and owners will try again");
                let busy = Arc::new(Answer::Busy);
                for (stream, seq) in asked {
                    self.answer(stream, seq, busy.clone());
                }
                false
            }
        };
        for stream in gone {
            self.streams.remove(&stream);
        }
        again
    }

    fn carry_out(&mut self, out: Vec<OutEvent>) -> bool {
        let mut again = false;
        for effect in out {
            match effect {
                OutEvent::Answer { stream, seq, answer } => self.answer(stream, seq, Arc::new(answer)),
                OutEvent::Close { stream } => {
                    if let Some(answers) = self.streams.remove(&stream) {
                        answers.close.cancel();
                    }
                }
                OutEvent::TickAgain => again = true,
            }
        }
        again
    }

    /// A stream that does not take its answers is closed: the worker waits for nobody.
    fn answer(&mut self, stream: StreamId, seq: Seq, answer: Arc<Answer>) {
        let Some(answers) = self.streams.get(&stream) else { return };
        if answers.queue.try_send((seq, answer)).is_err() {
            answers.close.cancel();
            self.streams.remove(&stream);
        }
    }
}

/// Whom to tell that the disk failed.
fn asked(event: &InEvent) -> Option<(StreamId, Seq)> {
    match event {
        InEvent::Request { stream, message } => Some((*stream, Request::seq(message)?)),
        _ => None,
    }
}

fn gone(event: &InEvent) -> Option<StreamId> {
    match event {
        InEvent::Closed { stream } => Some(*stream),
        _ => None,
    }
}

/// Requests of one commit at most: bounds the time that the first one waits for the last.
const GROUP_MAX: usize = 256;
/// Requests that may wait for the worker, about 20 MiB if all are large; streams then wait for room.
pub(super) const QUEUE: usize = 256;
