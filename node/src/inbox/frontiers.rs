//! After an absence: what a peer's rooms end with and ours do not know is fetched, from the peer or from any other member.
//! The outbox covers what linked members wrote; this covers what came to them while we were linked with nobody.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::{Method, Request, header};
use millpond_matrix::frontier::{self, Frontiers, Here, MAX_IDS, MAX_ROOMS};
use millpond_store::{View, rows::RoomShort, tables};
use ruma::{OwnedEventId, OwnedRoomId, RoomId, ServerName, UInt, api::federation::backfill::get_backfill};
use serde::{Deserialize, Serialize};

use super::{Inbox, MAX_PDUS};
use crate::{Error, peers::PATIENCE, rooms::rows};

/// Where frontiers are exchanged: ours, not of the specification.
pub const FRONTIERS_PATH: &str = "/_matrix/federation/unstable/org.millpond/frontiers";

/// Question and answer of the exchange.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Exchange {
    /// The forward extremities of shared rooms.
    pub rooms: Frontiers,
}

impl Inbox {
    /// Exchanges frontiers with a server that is back, and fetches what is missing here. Says whether it answered.
    ///
    /// # Errors
    /// Storage errors; a server that does not answer is asked the next time.
    pub async fn compare_frontiers(&self, with: &ServerName) -> Result<bool, Error> {
        let ours = self.frontiers(with)?;
        if ours.rooms.is_empty() {
            return Ok(true);
        }
        let failed = |e: serde_json::Error| Error::internal(format!("frontiers do not serialise: {e}"));
        let request = Request::builder()
            .method(Method::POST)
            .uri(FRONTIERS_PATH)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Bytes::from(serde_json::to_vec(&ours).map_err(failed)?))
            .map_err(|e| Error::internal(e.to_string()))?;
        let Ok(answer) = self.peers.send_over_link(with, request, PATIENCE).await else { return Ok(false) };
        let Ok(theirs) = serde_json::from_slice::<Exchange>(answer.body()) else { return Ok(true) };
        self.fetch_frontiers(with, &theirs.rooms).await.map(|()| true)
    }

    /// The frontiers of the rooms that we share with a server.
    ///
    /// # Errors
    /// Storage errors.
    pub fn frontiers(&self, with: &ServerName) -> Result<Exchange, Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let mut rooms = Frontiers::new();
        for row in view.scan(tables::ROOMS, ())? {
            let (short, room) = row?;
            if rooms.len() == MAX_ROOMS {
                break;
            }
            if self.shared(view, short, with)? {
                let ends = view.scan(tables::EXTREMITIES, (short,))?.take(MAX_IDS);
                let ids = ends.map(|row| rows::event_id(view, row?.0.1));
                rooms.insert(room.room_id, ids.collect::<Result<_, _>>()?);
            }
        }
        Ok(Exchange { rooms })
    }

    fn shared(&self, view: View<'_>, room: RoomShort, with: &ServerName) -> Result<bool, Error> {
        let ours = self.core.identity().server_name();
        Ok(view.contains(tables::ROOM_SERVERS, (room, with))? && view.contains(tables::ROOM_SERVERS, (room, ours))?)
    }

    /// Fetches the events that a server names and that are not here.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn fetch_frontiers(&self, from: &ServerName, theirs: &Frontiers) -> Result<(), Error> {
        let missing = {
            let snapshot = self.core.snapshot()?;
            let view = snapshot.view();
            let here = |room_id: &OwnedRoomId, id: &ruma::EventId| -> Result<Here, Error> {
                let Some(short) = rows::room_short(view, room_id)? else { return Ok(Here::NoSuchRoom) };
                if !self.shared(view, short, from)? {
                    return Ok(Here::NoSuchRoom);
                }
                let stored = rows::event_in_room(view, short, id)?;
                let placed = stored.is_some_and(|(_, row)| row.meta.state_after.is_some());
                let parked = view.contains(tables::PARKED, (&**room_id, id))?;
                Ok(if placed || parked { Here::Yes } else { Here::No })
            };
            frontier::missing(theirs, here)?
        };
        for (room_id, ids) in missing {
            self.fetch_ends(from, &room_id, ids).await?;
        }
        Ok(())
    }

    /// Asks for the ends of a room with what lies before them; what does not connect is parked, and asked for as ever.
    async fn fetch_ends(&self, from: &ServerName, room_id: &RoomId, ids: Vec<OwnedEventId>) -> Result<(), Error> {
        let room = {
            let snapshot = self.core.snapshot()?;
            rows::room(snapshot.view(), room_id)?
        };
        let Some((short, room)) = room else { return Ok(()) };
        let Ok(rules) = millpond_matrix::rules::rules(&room.version) else { return Ok(()) };
        let mut asked = BTreeSet::new();
        for server in self.who_to_ask(short, from)?.into_iter().take(MAX_ASKED) {
            if !asked.insert(server.clone()) {
                continue;
            }
            let limit = UInt::from(MAX_PDUS as u32);
            let request = get_backfill::v1::Request::new(room_id.to_owned(), ids.clone(), limit);
            let Ok(mut answer) = self.peers.ask(&server, request, PATIENCE).await else { continue };
            answer.pdus.truncate(MAX_PDUS);
            // The latest come first; they are judged in the order in which they are staged.
            answer.pdus.reverse();
            let fresh = self.unknown(&room, rules, &ids, answer.pdus)?;
            if !fresh.is_empty() {
                return self.stage(&server, &fresh).await;
            }
        }
        Ok(())
    }
}

/// Members asked for one room.
const MAX_ASKED: usize = 4;
