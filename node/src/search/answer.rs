//! A page of results, as the specification words it.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, hash_map::Entry},
};

use millpond_store::{
    Snapshot, View,
    rows::{EventRow, RoomShort},
    tables,
};
use ruma::{OwnedDeviceId, OwnedUserId, api::client::filter::RoomEventFilter, events::room::member::MembershipState};
use serde::Deserialize;

use super::{
    PATIENCE, Search,
    count::count,
    lookup::{self, Found, Hit},
    token::{Group, Place, Token},
    words,
};
use crate::{
    Error,
    json::{any_key, comma, key, plain_member, raw, text_member},
    rooms::{current, groups, rows},
    timeline::{
        reader::{Form, RoomReader, Who, sender},
        select::Select,
        state,
        token::Point,
        window::{self, Placed},
    },
};

/// What a search asks.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The words: an event must have all of them.
    pub term: String,
    /// `content.body` and so on; none: all.
    pub keys: Option<Vec<String>>,
    /// Which events, and how many.
    pub filter: RoomEventFilter,
    /// The order.
    pub order: Order,
    /// What happened around each result.
    pub context: Option<Around>,
    /// The present state of the rooms of the results.
    pub include_state: bool,
    /// Group by room.
    pub by_room: bool,
    /// Group by sender.
    pub by_sender: bool,
    /// Where the page starts.
    pub next_batch: Option<String>,
}

/// The order of results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Newest first.
    Recent,
    /// Closest first.
    #[default]
    Rank,
}

/// How much of what happened around a result.
#[derive(Clone, Copy, Debug)]
pub struct Around {
    /// Events before it.
    pub before: u64,
    /// Events after it.
    pub after: u64,
    /// What the senders showed of themselves then.
    pub profiles: bool,
}

impl Search {
    /// Answers a search, as a JSON body. Dropping the future is safe.
    ///
    /// # Errors
    /// 400 for keys and tokens that are not known, storage errors.
    pub async fn answer(&self, user: OwnedUserId, device: OwnedDeviceId, request: Request) -> Result<Vec<u8>, Error> {
        self.catch_up(PATIENCE).await?;
        let core = self.core.clone();
        let page = tokio::task::spawn_blocking(move || {
            let snapshot = core.snapshot()?;
            let who = Who::new(&core, snapshot.view(), &user, Some(&device))?;
            page(&snapshot, who, &request)
        });
        page.await.map_err(|_| Error::internal("a search died"))?
    }
}

/// The reader of each room that results are from.
pub(super) struct Readers<'v> {
    view: View<'v>,
    who: Who<'v>,
    rooms: HashMap<RoomShort, RoomReader<'v>>,
}

impl<'v> Readers<'v> {
    pub(super) fn of(&mut self, room: RoomShort) -> Result<&RoomReader<'v>, Error> {
        match self.rooms.entry(room) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(place) => {
                let room_id = rows::room_id(self.view, room)?;
                Ok(place.insert(RoomReader::new(self.view, self.who.clone(), room, room_id)?))
            }
        }
    }
}

/// How an event was found, and the event.
type Shown = (Hit, Placed);

/// The results of one page.
struct Page {
    results: Vec<Shown>,
    next: Option<Place>,
}

fn page(snapshot: &Snapshot, who: Who<'_>, request: &Request) -> Result<Vec<u8>, Error> {
    let view = snapshot.view();
    let token = request.next_batch.as_deref().map(Token::parse).transpose()?;
    let (fields, select) = (fields(request.keys.as_deref())?, Select::new(&request.filter));
    let rooms = rooms(view, &who, &select)?;
    let words: BTreeSet<String> = words::of_text(&request.term).into_iter().take(WORDS_MAX).collect();
    // The longest word is the rarest one, more often than not; starting with it keeps the lists short.
    let mut words: Vec<_> = words.into_iter().collect();
    words.sort_by_key(|word| Reverse(word.len()));
    let Found { mut hits, matched } = lookup::lookup(view, &words, fields, &rooms)?;
    let mut readers = Readers { view, who, rooms: HashMap::new() };
    hits.sort_unstable_by_key(|hit| Reverse(Place::of(hit, request.order)));
    let count = count(&mut readers, &hits, &select)?;
    let page = select_page(&mut readers, &hits, &select, request.order, token.as_ref())?;
    write(&mut readers, request, &page, count, &matched)
}

/// The bits of the fields that are searched.
fn fields(keys: Option<&[String]>) -> Result<u8, Error> {
    let Some(keys) = keys else { return Ok(words::BODY | words::NAME | words::TOPIC) };
    let bit = |key: &String| match key.as_str() {
        "content.body" => Ok(words::BODY),
        "content.name" => Ok(words::NAME),
        "content.topic" => Ok(words::TOPIC),
        other => Err(Error::invalid_param(format!(
            "`keys` may have content.body, content.name and content.topic, not {other:?}"
        ))),
    };
    keys.iter().try_fold(0, |bits, key| Ok(bits | bit(key)?))
}

/// The rooms that are searched: those that the user is or was in and has not forgotten.
fn rooms(view: View<'_>, who: &Who<'_>, select: &Select<'_>) -> Result<HashSet<RoomShort>, Error> {
    let mut rooms = HashSet::new();
    for row in view.scan(tables::MEMBERSHIPS, (who.user,))? {
        let ((_, room), row) = row?;
        let inside = matches!(row.membership, MembershipState::Join | MembershipState::Leave | MembershipState::Ban);
        if inside && !row.forgotten && row.event.is_some() && select.takes_room(&rows::room_id(view, room)?) {
            rooms.insert(room);
        }
    }
    Ok(rooms)
}

fn select_page(
    readers: &mut Readers<'_>,
    hits: &[Hit],
    select: &Select<'_>,
    order: Order,
    token: Option<&Token>,
) -> Result<Page, Error> {
    let limit = select.limit(RESULTS, RESULTS_MAX).max(1);
    let (mut page, mut reached) = (Page { results: Vec::new(), next: None }, None);
    let start = token.map_or(0, |token| hits.partition_point(|hit| Place::of(hit, order) >= token.after));
    let group = token.and_then(|token| token.group.as_ref());
    for (visited, hit) in hits[start..].iter().enumerate() {
        if visited == VISITS_MAX {
            page.next = reached;
            break;
        }
        if matches!(group, Some(Group::Room(room)) if *room != hit.room) {
            continue;
        }
        let reader = readers.of(hit.room)?;
        let row = rows::event(reader.view, hit.event)?;
        let of_sender = group.is_none_or(|group| !matches!(group, Group::Sender(user) if *user != *sender(&row)));
        if let Some(position) = row.meta.position
            && of_sender
            && select.takes(&row)
            && reader.shows(&row)?
        {
            if page.results.len() == limit {
                page.next = reached;
                break;
            }
            page.results.push((*hit, Placed { position, event: hit.event, row }));
        }
        reached = Some(Place::of(hit, order));
    }
    Ok(page)
}

fn write(
    readers: &mut Readers<'_>,
    request: &Request,
    page: &Page,
    count: u64,
    matched: &BTreeSet<String>,
) -> Result<Vec<u8>, Error> {
    let mut out = Vec::with_capacity(2048 * page.results.len() + 256);
    raw(&mut out, "{\"search_categories\":{\"room_events\":{");
    plain_member(&mut out, "count", count);
    key(&mut out, "highlights");
    raw(&mut out, &serde_json::Value::from_iter(matched.iter().map(String::as_str)).to_string());
    key(&mut out, "results");
    out.push(b'[');
    for (hit, placed) in &page.results {
        let reader = readers.of(hit.room)?;
        comma(&mut out);
        out.push(b'{');
        plain_member(&mut out, "rank", format_args!("{:.3}", hit.score));
        key(&mut out, "result");
        reader.write(&mut out, &placed.row, Form::Full)?;
        if let Some(around) = request.context {
            write_context(reader, &mut out, placed, around)?;
        }
        out.push(b'}');
    }
    out.push(b']');
    if request.include_state {
        write_state(readers, &mut out, page)?;
    }
    write_groups(readers, &mut out, request, page)?;
    if let Some(after) = page.next {
        let group = request.next_batch.as_deref().map(Token::parse).transpose()?.and_then(|token| token.group);
        text_member(&mut out, "next_batch", &Token { after, group }.to_string());
    }
    raw(&mut out, "}}}");
    Ok(out)
}

fn write_context(reader: &RoomReader<'_>, out: &mut Vec<u8>, placed: &Placed, around: Around) -> Result<(), Error> {
    let filter = RoomEventFilter::default();
    let select = Select::new(&filter);
    let limit = |limit: u64| usize::try_from(limit).unwrap_or(AROUND_MAX).min(AROUND_MAX);
    let position = placed.position;
    let before = window::backward(reader, Point::before(position), None, limit(around.before), &select)?;
    let after = window::forward(reader, Point(position), None, limit(around.after), &select)?;
    key(out, "context");
    out.push(b'{');
    for (name, window) in [("events_before", &before), ("events_after", &after)] {
        key(out, name);
        out.push(b'[');
        for placed in &window.events {
            reader.write(out, &placed.row, Form::Full)?;
        }
        out.push(b']');
    }
    let start = before.events.last().map_or(Point::before(position), |first| Point::before(first.position));
    let end = after.events.last().map_or(Point(position), |last| Point(last.position));
    text_member(out, "start", &start.to_string());
    text_member(out, "end", &end.to_string());
    if around.profiles {
        let shown = before.events.iter().chain(&after.events).chain([placed]);
        let senders: BTreeSet<_> = shown.map(|placed| sender(&placed.row).into_owned()).collect();
        write_profiles(reader, out, &placed.row, &senders)?;
    }
    out.push(b'}');
    Ok(())
}

/// What senders showed of themselves when the result was sent.
fn write_profiles(
    reader: &RoomReader<'_>,
    out: &mut Vec<u8>,
    result: &EventRow,
    senders: &BTreeSet<String>,
) -> Result<(), Error> {
    #[derive(Deserialize)]
    struct Profile {
        displayname: Option<String>,
        avatar_url: Option<String>,
    }
    key(out, "profile_info");
    out.push(b'{');
    let head = reader.view.get(tables::ROOM_HEADS, reader.room)?.map(|head| head.group);
    for user in senders {
        let event = match result.meta.state_after.filter(|group| Some(*group) != head) {
            None => current::entry(reader.view, reader.room, "m.room.member", user)?,
            Some(group) => match rows::state_key_short(reader.view, "m.room.member", user)? {
                Some(key) => groups::entry(reader.view, group, key)?,
                None => None,
            },
        };
        let Some(event) = event else { continue };
        let row = rows::event(reader.view, event)?;
        let profile = serde_json::from_str::<Profile>(row.header.content.of(&row.json));
        let Profile { displayname, avatar_url } = profile.unwrap_or(Profile { displayname: None, avatar_url: None });
        any_key(out, user);
        out.push(b'{');
        for (name, value) in [("displayname", displayname), ("avatar_url", avatar_url)] {
            if let Some(value) = value {
                text_member(out, name, &value);
            }
        }
        out.push(b'}');
    }
    out.push(b'}');
    Ok(())
}

fn write_state(readers: &mut Readers<'_>, out: &mut Vec<u8>, page: &Page) -> Result<(), Error> {
    key(out, "state");
    out.push(b'{');
    let rooms: BTreeSet<_> = page.results.iter().map(|(hit, _)| hit.room).collect();
    for room in rooms {
        let reader = readers.of(room)?;
        any_key(out, reader.room_id.as_str());
        out.push(b'[');
        for event in state::all(reader)? {
            reader.write_state(out, &rows::event(reader.view, event)?, Form::Full)?;
        }
        out.push(b']');
    }
    out.push(b'}');
    Ok(())
}

/// The results of each group, in the order of the groups' first results.
fn write_groups(readers: &mut Readers<'_>, out: &mut Vec<u8>, request: &Request, page: &Page) -> Result<(), Error> {
    let wanted = [("room_id", request.by_room), ("sender", request.by_sender)];
    if !wanted.iter().any(|(_, wanted)| *wanted) {
        return Ok(());
    }
    key(out, "groups");
    out.push(b'{');
    for (name, _) in wanted.iter().filter(|(_, wanted)| *wanted) {
        let mut members: BTreeMap<String, (usize, Vec<&Shown>)> = BTreeMap::new();
        for result in &page.results {
            let value = match *name {
                "room_id" => readers.of(result.0.room)?.room_id.to_string(),
                _ => sender(&result.1.row).into_owned(),
            };
            let order = members.len() + 1;
            members.entry(value).or_insert((order, Vec::new())).1.push(result);
        }
        key(out, name);
        out.push(b'{');
        for (value, (order, results)) in members {
            any_key(out, &value);
            out.push(b'{');
            plain_member(out, "order", order);
            key(out, "results");
            out.push(b'[');
            for (_, placed) in &results {
                comma(out);
                millpond_matrix::client::write_string(out, placed.row.header.event_id.as_str());
            }
            out.push(b']');
            if let (Some(_), Some((last, _))) = (page.next, results.last()) {
                let group = if *name == "room_id" { Group::Room(last.room) } else { Group::Sender(value) };
                let token = Token { after: Place::of(last, request.order), group: Some(group) };
                text_member(out, "next_batch", &token.to_string());
            }
            out.push(b'}');
        }
        out.push(b'}');
    }
    out.push(b'}');
    Ok(())
}

/// Results of a page where the filter says nothing, and at most.
const RESULTS: usize = 10;
const RESULTS_MAX: usize = 100;
/// Events around a result at most, on each side.
const AROUND_MAX: usize = 20;
/// Words of a search at most.
const WORDS_MAX: usize = 16;
/// Events looked at for one page: a filter that takes nothing must not read everything that has a common word.
const VISITS_MAX: usize = 10_000;
