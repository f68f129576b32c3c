//! Jobs: what the writer runs. A job decides on a view, then writes; it may run more than once before it is durable.

use std::{
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
};

use tokio::sync::oneshot;

use crate::{Error, Position, View, WriteError, WriteTxn};

/// A unit of writing. `decide` only reads, so an `Err` costs nobody else anything; `write` may fail only on storage
/// errors, because redb cannot take back one job of a group: then the group is aborted and its jobs run again one by one.
/// So both must give the same result when they run again on the same view.
pub trait Job: Send + 'static {
    /// What `decide` found out and `write` needs.
    type Plan;
    /// The answer to the caller.
    type Out: Send + 'static;
    /// Why the job is refused.
    type Err: Send + 'static;

    /// Reads and decides.
    ///
    /// # Errors
    /// The refusal, which answers this caller alone.
    fn decide(&mut self, view: View<'_>) -> Result<Self::Plan, Self::Err>;

    /// Writes what was decided.
    ///
    /// # Errors
    /// Storage errors only.
    fn write(&mut self, plan: Self::Plan, txn: &mut WriteTxn<'_>) -> Result<Self::Out, Error>;
}

/// A job made of two closures.
pub fn job<D, W, P, O, E>(decide: D, write: W) -> impl Job<Plan = P, Out = O, Err = E>
where
    D: FnMut(View<'_>) -> Result<P, E> + Send + 'static,
    W: FnMut(P, &mut WriteTxn<'_>) -> Result<O, Error> + Send + 'static,
    P: 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    Closures { decide, write, types: PhantomData::<fn() -> (P, O, E)> }
}

struct Closures<D, W, T> {
    decide: D,
    write: W,
    types: PhantomData<T>,
}

impl<D, W, P, O, E> Job for Closures<D, W, fn() -> (P, O, E)>
where
    D: FnMut(View<'_>) -> Result<P, E> + Send + 'static,
    W: FnMut(P, &mut WriteTxn<'_>) -> Result<O, Error> + Send + 'static,
    P: 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Plan = P;
    type Out = O;
    type Err = E;
    fn decide(&mut self, view: View<'_>) -> Result<P, E> {
        (self.decide)(view)
    }
    fn write(&mut self, plan: P, txn: &mut WriteTxn<'_>) -> Result<O, Error> {
        (self.write)(plan, txn)
    }
}

/// Why a job stopped inside a group.
pub(crate) enum Stop {
    /// It wrote nothing: the group goes on.
    Clean,
    /// It may have written something: the group must be aborted.
    Dirty(Error),
}

/// A job with its answer's way back, its types erased.
pub(crate) trait AnyJob: Send {
    fn run(&mut self, txn: &mut WriteTxn<'_>) -> Result<(), Stop>;
    /// Answers the caller: with the outcome of the last run, or with the error that kept it from being durable.
    fn answer(self: Box<Self>, committed: Result<Position, Error>);
}

pub(crate) type Reply<J> = oneshot::Sender<Result<(<J as Job>::Out, Position), WriteError<<J as Job>::Err>>>;

pub(crate) struct Queued<J: Job> {
    job: J,
    outcome: Option<Result<J::Out, WriteError<J::Err>>>,
    reply: Reply<J>,
}

impl<J: Job> Queued<J> {
    pub(crate) fn new(job: J, reply: Reply<J>) -> Self {
        Self { job, outcome: None, reply }
    }
}

impl<J: Job> AnyJob for Queued<J> {
    fn run(&mut self, txn: &mut WriteTxn<'_>) -> Result<(), Stop> {
        self.outcome = None;
        let job = &mut self.job;
        let plan = match catch_unwind(AssertUnwindSafe(|| job.decide(txn.view()))) {
            Ok(Ok(plan)) => plan,
            Ok(Err(refusal)) => {
                self.outcome = Some(Err(WriteError::Refused(refusal)));
                return Err(Stop::Clean);
            }
            Err(panic) => {
                self.outcome = Some(Err(Error::Panicked(message(panic.as_ref())).into()));
                return Err(Stop::Clean);
            }
        };
        match catch_unwind(AssertUnwindSafe(|| job.write(plan, txn))) {
            Ok(Ok(out)) => {
                self.outcome = Some(Ok(out));
                Ok(())
            }
            Ok(Err(error)) => Err(Stop::Dirty(error)),
            Err(panic) => Err(Stop::Dirty(Error::Panicked(message(panic.as_ref())))),
        }
    }

    fn answer(self: Box<Self>, committed: Result<Position, Error>) {
        let answer = match (self.outcome, committed) {
            // A refusal wrote nothing, so it stands whatever became of the commit.
            (Some(Err(refused)), _) => Err(refused),
            (Some(Ok(out)), Ok(position)) => Ok((out, position)),
            (_, Err(error)) => Err(error.into()),
            (None, Ok(_)) => Err(Error::Stopped.into()),
        };
        // The caller may have given up; what was written stays written.
        let _ = self.reply.send(answer);
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
