//! Telling the gateways. Each pusher has a durable cursor: what lies behind it is told in order, one request at a time, and
//! the cursor moves when the gateway has answered; a crash repeats a notification and never loses one. A gateway that
//! does not answer is asked again later and later.

use std::{collections::BTreeMap, time::Duration};

use millpond_store::{Position, Topic, job, rows::Pusher, tables};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    Key, Pushers,
    due::{self, Due},
    gateway::{self, Failure},
};
use crate::Error;

/// Where a pusher stands.
#[derive(Clone, Debug, Default)]
struct Standing {
    /// Which setting of it this is about.
    set_at_ms: u64,
    /// Up to where there was nothing to tell, in this run.
    looked: u64,
    busy: bool,
    failures: u32,
    retry_at: Option<Instant>,
    /// The count that the gateway heard last.
    badge: Option<u64>,
}

/// How a turn ended.
struct Turn {
    key: Key,
    standing: Standing,
    failed: bool,
}

impl Pushers {
    /// Tells the gateways until it is stopped.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn work(&self, stop: CancellationToken) -> Result<(), Error> {
        let mut commits = self.core.notifier().positions();
        let mut standings = BTreeMap::new();
        let mut turns: JoinSet<Result<Turn, Error>> = JoinSet::new();
        loop {
            commits.mark_unchanged();
            self.begin(&mut standings, &mut turns)?;
            let retry = standings.values().filter(|standing| !standing.busy).filter_map(|standing| standing.retry_at);
            let retry = retry.min();
            tokio::select! {
                () = stop.cancelled() => break,
                _ = commits.changed() => {
                    // A burst of messages is looked at once.
                    if stop.run_until_cancelled(tokio::time::sleep(GATHER)).await.is_none() {
                        break;
                    }
                }
                Some(ended) = turns.join_next() => {
                    let turn = ended.map_err(|e| Error::internal(format!("a push died: {e}")))??;
                    end(&mut standings, turn);
                }
                () = until(retry) => {}
            }
        }
        turns.shutdown().await;
        Ok(())
    }

    /// Starts a turn for each pusher that may have something to tell and is not waiting.
    fn begin(
        &self,
        standings: &mut BTreeMap<Key, Standing>,
        turns: &mut JoinSet<Result<Turn, Error>>,
    ) -> Result<(), Error> {
        let snapshot = self.core.snapshot()?;
        let (view, now) = (snapshot.view(), Instant::now());
        let position = view.position()?.0;
        let mut there = Vec::new();
        for row in view.scan(tables::PUSHERS, ())? {
            there.push(row?);
        }
        standings.retain(|key, standing| standing.busy || there.iter().any(|(other, _)| other == key));
        for (key, pusher) in there {
            if turns.len() >= TURNS {
                break;
            }
            let standing = standings.entry(key.clone()).or_default();
            if standing.busy {
                continue;
            }
            if standing.set_at_ms != pusher.set_at_ms {
                *standing = Standing { set_at_ms: pusher.set_at_ms, looked: pusher.told, ..Standing::default() };
            }
            let waits = standing.retry_at.is_some_and(|at| at > now);
            if waits || (standing.looked >= position && standing.failures == 0) {
                continue;
            }
            standing.busy = true;
            let (this, standing) = (self.clone(), standing.clone());
            turns.spawn(async move { this.turn(key, pusher, standing).await });
        }
        Ok(())
    }

    /// Tells one gateway all that is due now.
    async fn turn(&self, key: Key, pusher: Pusher, mut standing: Standing) -> Result<Turn, Error> {
        let (due, unread, up_to) = self.look(&key, &pusher, &standing).await?;
        let (egress, allow) = (self.core.egress(), &self.core.config().egress.allow);
        let (mut told, mut failed) = (standing.looked, false);
        for due in &due {
            match gateway::tell(egress, allow, (&key, &pusher), due, unread).await {
                Ok(()) => {
                    told = told.max(due.position);
                    standing.badge = Some(unread);
                }
                Err(Failure::Rejected) => {
                    self.reject(&key, pusher.set_at_ms).await?;
                    return Ok(Turn { key, standing, failed: false });
                }
                Err(error) => {
                    // Neither the gateway's name nor what was said is for the log.
                    tracing::debug!(%error, "a push gateway was not told and is asked again later");
                    failed = true;
                    break;
                }
            }
        }
        standing.looked = if failed { told } else { up_to };
        // A cursor that only lags costs a walk after the next start, so it is not written for every commit.
        if told > pusher.told || standing.looked > pusher.told + LAG {
            self.note(&key, pusher.set_at_ms, standing.looked).await?;
        }
        Ok(Turn { key, standing, failed })
    }

    /// What is due, the unread count, and up to which position that is so.
    async fn look(&self, key: &Key, pusher: &Pusher, standing: &Standing) -> Result<(Vec<Due>, u64, u64), Error> {
        let (this, user, pusher, standing) = (self.clone(), key.0.clone(), pusher.clone(), standing.clone());
        let look = move || {
            let snapshot = this.core.snapshot()?;
            let view = snapshot.view();
            let (after, up_to) = (standing.looked, view.position()?.0);
            let mut rooms = due::rooms(view, &user)?;
            let topics = rooms.iter().map(|(room, _)| Topic::Room(*room)).chain([Topic::User(user.clone())]);
            let touched = this.core.notifier().touched((Position(after), Position(up_to)), topics);
            if let Some(touched) = touched {
                // A user's topic tells of invites, whose rooms may not be here.
                let user_touched = touched.last() == Some(&true);
                let mut touched = touched.into_iter();
                rooms.retain(|(_, row)| touched.next() == Some(true) || (user_touched && row.position > after));
                if rooms.is_empty() {
                    return Ok((Vec::new(), 0, up_to));
                }
            }
            let mut due = due::due(view, &user, &pusher, (after, up_to), &rooms)?;
            let unread = match due.is_empty() && standing.badge.is_none() {
                true => 0,
                false => due::unread(view, &this.push, &user)?,
            };
            // What was read elsewhere takes the badge away here.
            if due.is_empty() && standing.badge.is_some_and(|badge| badge != unread) {
                due.push(Due::default());
            }
            Ok::<_, Error>((due, unread, up_to))
        };
        tokio::task::spawn_blocking(look).await.map_err(|e| Error::internal(format!("a push broke off: {e}")))?
    }

    /// The gateway was told up to a position.
    async fn note(&self, key: &Key, set_at_ms: u64, told: u64) -> Result<(), Error> {
        let (key, read) = (key.clone(), key.clone());
        let note = job(
            move |view| Ok::<_, Error>(view.get(tables::PUSHERS, &read)?.filter(|row| row.set_at_ms == set_at_ms)),
            move |row: Option<Pusher>, txn| match row {
                Some(row) => txn.put(tables::PUSHERS, &key, &Pusher { told: told.max(row.told), ..row }),
                None => Ok(()),
            },
        );
        self.core.write(note).await?;
        Ok(())
    }

    /// The gateway wants to hear no more of a key (push gateway API): the pusher goes.
    async fn reject(&self, key: &Key, set_at_ms: u64) -> Result<(), Error> {
        let (key, read) = (key.clone(), key.clone());
        let reject = job(
            move |view| Ok::<_, Error>(view.get(tables::PUSHERS, &read)?.is_some_and(|row| row.set_at_ms == set_at_ms)),
            move |same, txn| if same { txn.remove(tables::PUSHERS, &key).map(drop) } else { Ok(()) },
        );
        self.core.write(reject).await?;
        Ok(())
    }
}

fn end(standings: &mut BTreeMap<Key, Standing>, turn: Turn) {
    let Turn { key, mut standing, failed } = turn;
    standing.busy = false;
    if failed {
        standing.failures = standing.failures.saturating_add(1);
        standing.retry_at = Some(Instant::now() + back_off(standing.failures, rand::random()));
    } else {
        (standing.failures, standing.retry_at) = (0, None);
    }
    standings.insert(key, standing);
}

/// How long a gateway is left in peace: twice as long each time, and between half of that and all of it, so that nodes which
/// lost it together do not come back together.
fn back_off(failures: u32, random: u32) -> Duration {
    let whole = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST);
    whole / 2 + whole.mul_f64(f64::from(random) / f64::from(u32::MAX)) / 2
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// How long events may gather before they are looked at.
const GATHER: Duration = Duration::from_millis(100);
/// Gateways that are told at the same time.
const TURNS: usize = 16;
/// The first wait for a gateway that does not answer, and the longest.
const FIRST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(3600);
/// Positions that a cursor may lag behind.
const LAG: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_gateway_is_asked_ever_more_rarely() {
        assert_eq!(back_off(1, 0), FIRST / 2);
        assert_eq!(back_off(1, u32::MAX), FIRST);
        assert_eq!(back_off(3, u32::MAX), FIRST * 4);
        assert_eq!(back_off(u32::MAX, u32::MAX), LONGEST);
        assert!(back_off(20, 0) >= LONGEST / 2);
    }
}
