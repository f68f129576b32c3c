//! The thread that hashes: one, so that its memory is one block that is used again, and not one for each thread that ever
//! hashed. The queue before it is bounded; whoever finds it full is told to come again.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    time::Duration,
};

use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::phc::{Output, ParamsString, PasswordHash, Salt},
};
use tokio::sync::oneshot;

use crate::Error;

/// A handle on the thread, which starts with the first password. Cloning gives another handle.
#[derive(Clone, Default)]
pub(super) struct Hasher(Arc<Mutex<Option<SyncSender<Ask>>>>);

type Ask = Box<dyn FnOnce(&mut Memory) + Send>;

impl Hasher {
    /// Runs `task` on the thread. Dropping the future takes it back, unless it runs already.
    ///
    /// # Errors
    /// 429 `M_LIMIT_EXCEEDED` when [`WAITING_MAX`] wait already.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        task: impl FnOnce(&mut Memory) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.queue(Box::new(move |memory| {
            if !reply.is_closed() {
                // Nobody waits any more if this fails.
                let _ = reply.send(task(memory));
            }
        }))?;
        answer.await.map_err(|_| Error::internal("the thread that hashes passwords ended"))
    }

    fn queue(&self, ask: Ask) -> Result<(), Error> {
        let mut thread = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ask = match &*thread {
            None => ask,
            Some(queue) => match queue.try_send(ask) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Full(_)) => {
                    let message = "too many logins and registrations wait: try again in a moment";
                    return Err(Error::limit_exceeded(RETRY_AFTER, message));
                }
                // A task panicked. The next one gets a new thread.
                Err(TrySendError::Disconnected(ask)) => ask,
            },
        };
        let (queue, asks) = sync_channel(WAITING_MAX);
        std::thread::Builder::new()
            .name("millpond-hasher".to_owned())
            .spawn(move || serve(&asks))
            .map_err(|e| Error::internal(format!("the thread that hashes passwords does not start: {e}")))?;
        queue.try_send(ask).map_err(|_| Error::internal("the thread that hashes passwords ended"))?;
        *thread = Some(queue);
        Ok(())
    }
}

/// Works until the last handle is gone; gives the memory back when nothing was asked for a while.
fn serve(asks: &Receiver<Ask>) {
    let mut memory = Memory::default();
    loop {
        let next = if memory.0.is_empty() {
            asks.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            asks.recv_timeout(KEEP_MEMORY)
        };
        match next {
            Ok(ask) => ask(&mut memory),
            Err(RecvTimeoutError::Timeout) => memory = Memory::default(),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// What Argon2 fills.
#[derive(Default)]
pub(super) struct Memory(Vec<Block>);

impl Memory {
    /// The PHC string of a password, with a new salt and the default parameters.
    pub(super) fn hash(&mut self, password: &[u8]) -> Result<String, argon2::password_hash::Error> {
        let (salt, params) = (Salt::generate(), Params::default());
        let hash = PasswordHash {
            algorithm: Algorithm::Argon2id.ident(),
            version: Some(Version::V0x13.into()),
            params: ParamsString::try_from(&params)?,
            hash: Some(self.output(password, &salt, Algorithm::Argon2id, Version::V0x13, params)?),
            salt: Some(salt),
        };
        Ok(hash.to_string())
    }

    /// Whether a password gives the hash, in a time that does not tell how nearly.
    pub(super) fn fits(&mut self, password: &[u8], hash: &PasswordHash) -> bool {
        let (Some(salt), Some(expected)) = (&hash.salt, &hash.hash) else { return false };
        let (Ok(algorithm), Ok(params)) = (Algorithm::try_from(hash.algorithm.as_str()), Params::try_from(hash)) else {
            return false;
        };
        let version = hash.version.map_or(Ok(Version::default()), Version::try_from);
        let output = version.map_err(Into::into).and_then(|v| self.output(password, salt, algorithm, v, params));
        // The comparison of outputs takes constant time.
        output.is_ok_and(|output| output == *expected)
    }

    fn output(
        &mut self,
        password: &[u8],
        salt: &[u8],
        algorithm: Algorithm,
        version: Version,
        params: Params,
    ) -> Result<Output, argon2::password_hash::Error> {
        let (blocks, len) = (params.block_count(), params.output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN));
        if self.0.len() < blocks {
            self.0.reserve_exact(blocks.max(RESERVED));
            self.0.resize(blocks, Block::default());
        }
        let mut buffer = [0; Output::MAX_LENGTH];
        let output = buffer.get_mut(..len).ok_or(argon2::password_hash::Error::OutputSize)?;
        Argon2::new(algorithm, version, params).hash_password_into_with_memory(password, salt, output, &mut self.0)?;
        Ok(Output::new(output)?)
    }
}

/// Passwords that may wait: each takes up to 4 KiB and about 20 ms of the thread.
const WAITING_MAX: usize = 256;
/// When to come again: a full queue is done in five seconds.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// How long the memory is kept for the next password.
const KEEP_MEMORY: Duration = Duration::from_secs(5);
/// Blocks of 1 KiB that are reserved, though fewer are touched: glibc maps what is above 32 MiB on its own in any case, and
/// so gives it back when it is freed. Smaller ones move into its arenas after the first time and stay there.
const RESERVED: usize = 33 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_finds_the_queue_full_is_told_to_come_again_and_the_others_are_served() {
        let hasher = Hasher::default();
        let (open, gate) = std::sync::mpsc::channel::<()>();
        let (begun, first) = oneshot::channel();
        let busy = tokio::spawn({
            let hasher = hasher.clone();
            async move {
                hasher
                    .run(move |_| {
                        begun.send(()).unwrap();
                        gate.recv().unwrap();
                    })
                    .await
            }
        });
        first.await.unwrap();
        let mut waiting = Vec::new();
        for n in 0..WAITING_MAX {
            let mut run = Box::pin(hasher.run(move |_| n));
            assert!(futures::poll!(&mut run).is_pending());
            waiting.push(run);
        }
        let refused = hasher.run(|_| ()).await.unwrap_err();
        assert!(matches!(refused.kind(), Some(ruma::api::error::ErrorKind::LimitExceeded(_))), "{refused}");
        open.send(()).unwrap();
        busy.await.unwrap().unwrap();
        for (n, run) in waiting.into_iter().enumerate() {
            assert_eq!(run.await.unwrap(), n);
        }
    }

    #[tokio::test]
    async fn a_panic_costs_its_own_caller_only() {
        let hasher = Hasher::default();
        assert!(hasher.run(|_| -> () { panic!("a task of a test") }).await.is_err());
        // The thread may still be on its way out, with the queue open.
        while hasher.run(|_| ()).await.is_err() {}
    }

    #[test]
    fn one_memory_serves_hashes_of_other_sizes() {
        let mut memory = Memory::default();
        let phc = memory.hash(b"one").unwrap();
        let blocks = memory.0.as_ptr();
        let small = "$argon2id$v=19$m=8,t=1,p=1$c29tZSBzYWx0IGhlcmU$hjX3Yv1vYRt8TXSvNJcUwQ";
        assert!(!memory.fits(b"one", &PasswordHash::new(small).unwrap()));
        assert!(memory.fits(b"one", &PasswordHash::new(&phc).unwrap()));
        assert!(!memory.fits(b"two", &PasswordHash::new(&phc).unwrap()));
        assert_eq!(memory.0.as_ptr(), blocks, "the memory is used again");
    }
}
