//! Events of others in rooms with a policy server: each must carry its signature (server-server API, "Policy Servers"). One
//! without is shown to the policy server, and soft-failed unless it signs it then.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use futures::{StreamExt, stream};
use millpond_matrix::{
    policy_server::{PolicyServer, needs_endorsement},
    rules::RoomRules,
};
use millpond_store::rows::{Room, RoomShort};
use serde_json::value::RawValue;

use super::{Inbox, judge::Ready};
use crate::{
    Error,
    classic::AnyPdu,
    rooms::{Endorser, policy_server, rows},
};

/// Events of a room that the policy server is asked about at once.
const AT_ONCE: usize = 4;
/// How long it may take: what others have said waits for it.
const PATIENCE: Duration = Duration::from_secs(5);

impl Inbox {
    /// Adds the signature of the room's policy server to events that lack it, and marks those that it does not sign.
    pub(super) async fn recommended(
        &self,
        room: (RoomShort, &Room),
        rules: &'static RoomRules,
        ready: Vec<Ready>,
    ) -> Result<Vec<Ready>, Error> {
        let server = policy_server(&self.core, self.core.snapshot()?.view(), room.0)?;
        let Some(server) = server else { return Ok(ready) };
        // Who did not answer once is not asked again in this go.
        let silent = AtomicBool::new(false);
        let one = |ready| self.one(room, rules, (&server, &silent), ready);
        let done: Vec<Result<Ready, Error>> = stream::iter(ready).map(one).buffered(AT_ONCE).collect().await;
        done.into_iter().collect()
    }

    async fn one(
        &self,
        (short, room): (RoomShort, &Room),
        rules: &'static RoomRules,
        (server, silent): (&PolicyServer, &AtomicBool),
        ready: Ready,
    ) -> Result<Ready, Error> {
        if !needs_endorsement(&ready.pdu) || server.has_endorsed(rules, &ready.pdu) || self.is_placed(short, &ready)? {
            return Ok(ready);
        }
        if silent.load(Ordering::Relaxed) {
            return Ok(Ready { unwanted: true, ..ready });
        }
        let json = RawValue::from_string(ready.pdu.json().to_owned()).map_err(|e| Error::internal(e.to_string()))?;
        let asked = self.peers.endorse(server.via(), AnyPdu::of(room, json));
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(signature)) => match server.endorsed(rules, &ready.pdu, &signature) {
                Some(pdu) => Ok(Ready { pdu, ..ready }),
                None => Ok(Ready { unwanted: true, ..ready }),
            },
            Ok(Err(Error::Matrix { status, .. })) if status.is_client_error() => Ok(Ready { unwanted: true, ..ready }),
            _ => {
                silent.store(true, Ordering::Relaxed);
                Ok(Ready { unwanted: true, ..ready })
            }
        }
    }

    /// What has its place was judged before.
    fn is_placed(&self, room: RoomShort, ready: &Ready) -> Result<bool, Error> {
        let snapshot = self.core.snapshot()?;
        let head = rows::head_in_room(snapshot.view(), room, ready.pdu.event_id())?;
        Ok(head.is_some_and(|(_, head)| head.meta.state_after.is_some()))
    }
}
