//! `/notifications` (client-server API, "Listing notifications"): what a user was told of, or would have been, newest first.
//! Nothing is kept for it: the timelines of the user's rooms are walked side by side and judged by the push rules of now,
//! as the unread counts are. A page ends after so many events looked at, with a token to go on.

use std::{collections::BinaryHeap, ops::Bound};

use millpond_store::{
    Rows, View,
    rows::{EventRow, EventShort, RoomShort},
    tables,
};
use ruma::{DeviceId, UserId, events::room::member::MembershipState};

use crate::{
    Core, Error,
    json::{key, plain_member, raw, text_member},
    push::{Ear, Heard, Told, Wishes},
    rooms::rows,
    timeline::reader::{Form, RoomReader, Who},
};

/// What a user was notified about. Cloning is cheap.
#[derive(Clone)]
pub struct Notifications {
    core: Core,
}

/// What a client asks.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The token of the last page.
    pub from: Option<String>,
    /// How many at most.
    pub limit: Option<u64>,
    /// Highlights only.
    pub highlights: bool,
}

impl Notifications {
    /// The service over `core`.
    pub fn new(core: Core) -> Self {
        Self { core }
    }

    /// A page as a JSON body. Dropping the future is safe.
    ///
    /// # Errors
    /// 400 `M_INVALID_PARAM` for a token that is not ours; storage errors.
    pub async fn page(&self, user: &UserId, device: &DeviceId, request: Request) -> Result<Vec<u8>, Error> {
        let before = request.from.as_deref().map(parse).transpose()?.unwrap_or(i64::MAX);
        let (core, user, device) = (self.core.clone(), user.to_owned(), device.to_owned());
        // Thousands of rooms take a while: not on a thread that others wait for.
        let page = tokio::task::spawn_blocking(move || {
            let snapshot = core.snapshot()?;
            let who = Who::new(&core, snapshot.view(), &user, Some(&device))?;
            page(snapshot.view(), &who, before, &request)
        });
        page.await.map_err(|e| Error::internal(format!("a page of notifications broke off: {e}")))?
    }
}

/// A room on the walk.
struct Room<'v> {
    room: RoomShort,
    joined: bool,
    rows: Option<Rows<'v, (RoomShort, i64), EventShort>>,
    open: Option<(RoomReader<'v>, Ear<'v>)>,
}

impl Room<'_> {
    fn next(&mut self) -> Result<Option<(i64, EventShort)>, Error> {
        let Some(rows) = &mut self.rows else { return Ok(None) };
        Ok(rows.next_back().transpose()?.map(|((_, position), event)| (position, event)))
    }
}

fn page(view: View<'_>, who: &Who<'_>, before: i64, request: &Request) -> Result<Vec<u8>, Error> {
    let limit = request.limit.map_or(DEFAULT, |limit| usize::try_from(limit).unwrap_or(MAX)).clamp(1, MAX);
    let wishes = Wishes::of(view, who.user)?;
    let (mut rooms, mut heads) = (Vec::new(), BinaryHeap::new());
    for row in view.scan(tables::MEMBERSHIPS, (who.user,))? {
        let ((_, room), row) = row?;
        let at = rooms.len();
        match (row.membership, row.event) {
            (MembershipState::Join, _) => {
                let (from, to) = (Bound::Included((room, 1)), Bound::Excluded((room, before)));
                let mut walk =
                    Room { room, joined: true, rows: Some(view.range(tables::TIMELINE, from, to)?), open: None };
                heads.extend(walk.next()?.map(|(position, event)| (position, at, event)));
                rooms.push(walk);
            }
            (MembershipState::Invite, Some(event)) => {
                let position =
                    rows::event(view, event)?.meta.position.filter(|position| (1..before).contains(position));
                heads.extend(position.map(|position| (position, at, event)));
                rooms.push(Room { room, joined: false, rows: None, open: None });
            }
            _ => {}
        }
    }
    let (mut body, mut found, mut looked, mut next) = (b"{\"notifications\":[".to_vec(), 0, 0, None);
    while let Some((position, at, event)) = heads.pop() {
        if found == limit || looked == WALK_MAX {
            next = Some(position.saturating_add(1));
            break;
        }
        looked += 1;
        let (walk, row) = (&mut rooms[at], rows::event(view, event)?);
        let joined = walk.joined;
        let (reader, ear) = open(view, who, &wishes, walk)?;
        match ear.hear(position, &row)? {
            // What is older than the user's join is not for him.
            Heard::OwnJoin => continue,
            Heard::Told(told) if !request.highlights || told.highlights() => {
                if !joined || reader.shows(&row)? {
                    write(&mut body, reader, &row, &told)?;
                    found += 1;
                }
            }
            Heard::Told(_) | Heard::Nothing => {}
        }
        heads.extend(walk.next()?.map(|(position, event)| (position, at, event)));
    }
    raw(&mut body, "]");
    if let Some(next) = next {
        text_member(&mut body, "next_token", &next.to_string());
    }
    raw(&mut body, "}");
    Ok(body)
}

fn open<'w, 'v>(
    view: View<'v>,
    who: &Who<'v>,
    wishes: &'v Wishes,
    walk: &'w mut Room<'v>,
) -> Result<(&'w RoomReader<'v>, &'w mut Ear<'v>), Error> {
    if walk.open.is_none() {
        let reader = RoomReader::new(view, who.clone(), walk.room, rows::room_id(view, walk.room)?)?;
        walk.open = Some((reader, Ear::new(view, who.user, walk.room, wishes)?));
    }
    let (reader, ear) = walk.open.as_mut().expect("it was opened just now");
    Ok((reader, ear))
}

fn write(body: &mut Vec<u8>, reader: &RoomReader<'_>, row: &EventRow, told: &Told) -> Result<(), Error> {
    let actions = serde_json::to_string(&told.actions);
    let actions = actions.map_err(|e| Error::internal(format!("actions do not serialise: {e}")))?;
    crate::json::comma(body);
    raw(body, "{");
    key(body, "actions");
    raw(body, &actions);
    key(body, "event");
    reader.write(body, row, Form::Sync)?;
    plain_member(body, "read", told.read);
    text_member(body, "room_id", reader.room_id.as_str());
    plain_member(body, "ts", row.header.origin_server_ts.0);
    raw(body, "}");
    Ok(())
}

/// A token: the position before which the next page lies.
fn parse(token: &str) -> Result<i64, Error> {
    let position = token.parse().ok().filter(|position| *position > 0);
    position.ok_or_else(|| Error::invalid_param("`from` is not a token of this server: ask once without it"))
}

/// Notifications of a page that asks for no number.
const DEFAULT: usize = 50;
/// And of any page.
const MAX: usize = 200;
/// Events looked at for one page: where nothing is told of, a client has to ask again.
const WALK_MAX: usize = 5000;
