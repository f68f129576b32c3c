//! One event of a peer that must be part of the room now or not at all: the one that enters or leaves through us.

use std::{collections::BTreeSet, sync::Arc};

use millpond_matrix::{
    CheckedPdu, Verdict,
    decide::Given,
    rules::rules,
    state::{Resolution, StateSet},
};
use millpond_store::{
    job,
    rows::{Room, RoomShort},
};
use ruma::OwnedServerName;

use super::{Inbox, parked};
use crate::{
    Error,
    rooms::{
        apply::{self, Context, Owed},
        rows,
    },
};

enum Outcome {
    Done,
    Refused(String),
    Resolve(Vec<StateSet>),
}

impl Inbox {
    /// Judges and writes an event, and owes it to the room but for `except`. Once it is there, doing it again does nothing.
    /// Dropping the future does not take it back.
    ///
    /// # Errors
    /// 403 when the rules do not let it in, 400 when it refers to events that are not here; then nothing is written.
    pub(crate) async fn append(
        &self,
        (short, room): (RoomShort, &Room),
        pdu: CheckedPdu,
        except: BTreeSet<OwnedServerName>,
    ) -> Result<(), Error> {
        let rules = rules(&room.version).map_err(|e| Error::internal(e.to_string()))?;
        let room = Arc::new(room.clone());
        let context = Context { owed: Owed::AllBut(except), ..Context::default() };
        let mut resolutions: Vec<Resolution> = Vec::new();
        loop {
            let (core, pdu_job, room_job) = (self.core.clone(), pdu.clone(), room.clone());
            let (resolved, context) = (resolutions.clone(), context.clone());
            let write = job(
                |_| Ok::<_, Error>(()),
                move |(), txn| {
                    let (room, pdu) = ((short, &*room_job), &pdu_job);
                    let given = Given { resolutions: &resolved, ..Given::default() };
                    let verdict = apply::verdict(txn.view(), room, pdu, &given).map_err(apply::store_error)?;
                    Ok(match verdict {
                        Verdict::Append(_) => {
                            apply::write(txn, core.identity(), room, pdu, verdict, &context)?;
                            parked::unpark(txn, &room.1.room_id, pdu.event_id())?;
                            parked::wake(txn, pdu.event_id())?;
                            Outcome::Done
                        }
                        Verdict::Duplicate => match rows::event_by_id(txn.view(), pdu.event_id())? {
                            Some((_, row)) if row.meta.position.is_some() => Outcome::Done,
                            _ => Outcome::Refused("it was refused before".to_owned()),
                        },
                        Verdict::Reject { why, .. } | Verdict::SoftFail { why, .. } => Outcome::Refused(why),
                        Verdict::Park(_) => {
                            Outcome::Refused("it refers to events that are not here; ask for a new template".to_owned())
                        }
                        Verdict::Resolve(sets) => Outcome::Resolve(sets),
                    })
                },
            );
            match self.core.write(write).await?.0 {
                Outcome::Done => return Ok(()),
                Outcome::Refused(why) => {
                    return Err(Error::forbidden(format!("the room does not take the event: {why}")));
                }
                Outcome::Resolve(sets) => resolutions.push(self.resolve((short, &room), rules, sets, &pdu)?),
            }
        }
    }
}
