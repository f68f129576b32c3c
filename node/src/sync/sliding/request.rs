//! What a client of sliding sync asks, in the spelling of the unstable endpoint that clients use today and in that of the
//! proposal's text: `ranges` or `range`, pairs with `*`, `$LAZY` and `$ME` or objects with `include` and `exclude`.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use ruma::{OwnedRoomId, UserId};
use serde::{Deserialize, Deserializer, Serialize};

use crate::Error;

/// A request.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Request {
    /// The position of the last answer.
    #[serde(default)]
    pub pos: Option<String>,
    /// Which connection of the device this is.
    #[serde(default)]
    pub conn_id: Option<String>,
    /// Comes back in the answer.
    #[serde(default)]
    pub txn_id: Option<String>,
    /// How long to wait for something to happen.
    #[serde(default, deserialize_with = "milliseconds")]
    pub timeout: Option<Duration>,
    /// Lists of rooms by activity.
    #[serde(default)]
    pub lists: BTreeMap<String, List>,
    /// Rooms by id.
    #[serde(default)]
    pub room_subscriptions: BTreeMap<OwnedRoomId, RoomConfig>,
    /// What is no part of a room's history.
    #[serde(default)]
    pub extensions: Extensions,
}

/// A list of rooms.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct List {
    #[serde(default)]
    ranges: Option<Vec<(u64, u64)>>,
    #[serde(default)]
    range: Option<(u64, u64)>,
    /// What to tell of its rooms.
    #[serde(flatten)]
    pub config: RoomConfig,
    /// Which rooms are in it.
    #[serde(default)]
    pub filters: Option<Filters>,
}

impl List {
    /// The parts of a list of `len` rooms that are asked for; without ranges all of it is.
    pub(super) fn spans(&self, len: usize) -> impl Iterator<Item = Range<usize>> {
        let index = move |index: u64| usize::try_from(index).map_or(len, |index| index.min(len));
        let span = move |(first, last): &(u64, u64)| index(*first)..index(last.saturating_add(1)).max(index(*first));
        let all = self.asked_ranges().is_none().then_some(0..len);
        self.asked_ranges().into_iter().flatten().map(span).chain(all)
    }

    /// Which part of the list an index is in, where every end of a range begins another: the indices of a part are all
    /// asked for, or none is.
    pub(super) fn part(&self, index: usize) -> usize {
        let ends = self.asked_ranges().into_iter().flatten().flat_map(|(first, last)| [*first, last.saturating_add(1)]);
        ends.filter(|end| *end <= index as u64).count()
    }

    /// Whether rooms are in it because a space names them.
    pub(super) fn asks_for_spaces(&self) -> bool {
        self.filters.as_ref().is_some_and(|filters| filters.spaces.is_some())
    }

    fn asked_ranges(&self) -> Option<&[(u64, u64)]> {
        self.ranges.as_deref().or(self.range.as_ref().map(std::slice::from_ref))
    }
}

/// What to tell of a room.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct RoomConfig {
    /// Events of the timeline, at most.
    #[serde(default)]
    pub timeline_limit: u64,
    /// State events.
    #[serde(default)]
    pub required_state: Required,
}

/// Which state events a client wants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "RequiredSpelling")]
pub struct Required {
    /// These.
    pub include: Vec<Element>,
    /// But not these.
    pub exclude: Vec<Element>,
    /// And the members who matter for the timeline part, in place of all that a wildcard would take.
    pub lazy_members: bool,
}

/// A pattern of state events: none matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Element {
    /// The event type.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The state key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_key: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RequiredSpelling {
    Pairs(Vec<(String, String)>),
    Object {
        #[serde(default)]
        include: Vec<Element>,
        #[serde(default)]
        exclude: Vec<Element>,
        #[serde(default)]
        lazy_members: bool,
    },
}

impl From<RequiredSpelling> for Required {
    fn from(spelling: RequiredSpelling) -> Self {
        let pairs = match spelling {
            RequiredSpelling::Object { include, exclude, lazy_members } => {
                return Self { include, exclude, lazy_members };
            }
            RequiredSpelling::Pairs(pairs) => pairs,
        };
        let mut required = Self::default();
        for (kind, state_key) in pairs {
            if kind == MEMBER && state_key == "$LAZY" {
                required.lazy_members = true;
                continue;
            }
            let some = |text: String| (text != "*").then_some(text);
            required.include.push(Element { kind: some(kind), state_key: some(state_key) });
        }
        required
    }
}

impl Required {
    /// Puts the user's own id in place of `$ME`.
    fn mine(&mut self, user: &UserId) {
        for element in self.include.iter_mut().chain(&mut self.exclude) {
            if element.state_key.as_deref() == Some("$ME") {
                element.state_key = Some(user.to_string());
            }
        }
    }
}

/// Which rooms a list has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Filters {
    /// Direct chats, or all others.
    #[serde(default)]
    pub is_dm: Option<bool>,
    /// Rooms that these spaces name as their children.
    #[serde(default)]
    pub spaces: Option<Vec<String>>,
    /// Encrypted rooms, or all others.
    #[serde(default)]
    pub is_encrypted: Option<bool>,
    /// Invites, or all others.
    #[serde(default, alias = "is_invited")]
    pub is_invite: Option<bool>,
    /// Rooms of these types; null is that of a room without a type.
    #[serde(default)]
    pub room_types: Option<Vec<Option<String>>>,
    /// No rooms of these types.
    #[serde(default)]
    pub not_room_types: Vec<Option<String>>,
    /// Rooms whose name contains this, in upper or lower case.
    #[serde(default)]
    pub room_name_like: Option<String>,
    /// Rooms with any of these tags.
    #[serde(default)]
    pub tags: Option<Vec<String>>,
    /// Rooms with none of these tags.
    #[serde(default)]
    pub not_tags: Vec<String>,
}

/// What is asked for beside rooms.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Extensions {
    /// To-device messages.
    #[serde(default)]
    pub to_device: ToDevice,
    /// Device lists and counts of keys.
    #[serde(default)]
    pub e2ee: Switch,
    /// Account data.
    #[serde(default)]
    pub account_data: OfRooms,
    /// Receipts.
    #[serde(default)]
    pub receipts: OfRooms,
    /// Who is typing.
    #[serde(default)]
    pub typing: OfRooms,
}

/// To-device messages: they have a token of their own.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ToDevice {
    /// They are asked for.
    #[serde(default)]
    pub enabled: Option<bool>,
    /// At most so many.
    #[serde(default)]
    pub limit: Option<u64>,
    /// `next_batch` of the last ones: what was sent up to there has arrived.
    #[serde(default)]
    pub since: Option<String>,
}

/// An extension without settings.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Switch {
    /// It is asked for.
    #[serde(default)]
    pub enabled: Option<bool>,
}

/// An extension that is about rooms.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct OfRooms {
    /// It is asked for.
    #[serde(default)]
    pub enabled: Option<bool>,
    /// For rooms of these lists; none: of all.
    #[serde(default)]
    pub lists: Option<Vec<String>>,
    /// For these subscribed rooms, `*` for all; none: for all.
    #[serde(default)]
    pub rooms: Option<Vec<String>>,
}

impl OfRooms {
    pub(super) fn is_on(&self) -> bool {
        self.enabled == Some(true)
    }

    pub(super) fn takes_list(&self, name: &str) -> bool {
        self.lists.as_ref().is_none_or(|lists| lists.iter().any(|list| list == name || list == "*"))
    }

    pub(super) fn takes_subscribed(&self, room_id: &str) -> bool {
        self.rooms.as_ref().is_none_or(|rooms| rooms.iter().any(|room| room == room_id || room == "*"))
    }
}

impl Request {
    /// Whether another request asks the same of the same rooms.
    pub(super) fn has_rules_of(&self, other: &Self) -> bool {
        let of_rooms = |extensions: &Extensions| {
            let Extensions { account_data, receipts, typing, .. } = extensions;
            [account_data.clone(), receipts.clone(), typing.clone()]
        };
        self.lists == other.lists
            && self.room_subscriptions == other.room_subscriptions
            && of_rooms(&self.extensions) == of_rooms(&other.extensions)
    }

    /// Bounds what is asked, and fills in who asks.
    ///
    /// # Errors
    /// 400 `M_INVALID_PARAM`.
    pub(super) fn prepare(&mut self, user: &UserId) -> Result<(), Error> {
        let too_many = |what: &str, most: usize| Err(Error::invalid_param(format!("Ask for at most {most} {what}")));
        if self.lists.len() > LISTS_MAX {
            return too_many("lists", LISTS_MAX);
        }
        if self.room_subscriptions.len() > SUBSCRIPTIONS_MAX {
            return too_many("rooms by id", SUBSCRIPTIONS_MAX);
        }
        if self.conn_id.as_ref().is_some_and(|id| id.len() > CONN_ID_MAX) {
            return Err(Error::invalid_param(format!("`conn_id` has at most {CONN_ID_MAX} bytes")));
        }
        let lists = self.lists.values_mut().map(|list| &mut list.config);
        for config in lists.chain(self.room_subscriptions.values_mut()) {
            if config.required_state.include.len() + config.required_state.exclude.len() > ELEMENTS_MAX {
                return too_many("elements of `required_state`", ELEMENTS_MAX);
            }
            config.timeline_limit = config.timeline_limit.min(TIMELINE_MAX);
            config.required_state.mine(user);
        }
        if self.lists.values().any(|list| list.ranges.iter().flatten().count() > RANGES_MAX) {
            return too_many("ranges of a list", RANGES_MAX);
        }
        Ok(())
    }
}

fn milliseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    Ok(Option::<u64>::deserialize(deserializer)?.map(Duration::from_millis))
}

pub(super) const MEMBER: &str = "m.room.member";
/// As the proposal says.
const LISTS_MAX: usize = 100;
/// More than a client shows at once.
const SUBSCRIPTIONS_MAX: usize = 1000;
/// Clients ask for some twenty.
const ELEMENTS_MAX: usize = 200;
const RANGES_MAX: usize = 100;
/// Clients use words.
const CONN_ID_MAX: usize = 255;
/// Events of a room in one answer: who wants more asks for its history.
const TIMELINE_MAX: u64 = 100;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(json: serde_json::Value) -> Request {
        let mut request: Request = serde_json::from_value(json).unwrap();
        request.prepare(ruma::user_id!("@me:here")).unwrap();
        request
    }

    #[test]
    fn both_spellings_ask_for_the_same() {
        let old = request(json!({ "conn_id": "a", "lists": { "all": {
            "ranges": [[0, 19]], "timeline_limit": 1, "filters": { "is_invite": false },
            "required_state": [["m.room.member", "$LAZY"], ["m.room.member", "$ME"], ["*", "*"], ["m.room.name", ""]],
        } } }));
        let new = request(json!({ "conn_id": "a", "lists": { "all": {
            "range": [0, 19], "timeline_limit": 1, "filters": { "is_invited": false },
            "required_state": { "lazy_members": true, "include": [
                { "type": "m.room.member", "state_key": "$ME" }, {}, { "type": "m.room.name", "state_key": "" },
            ] },
        } } }));
        let (old, new) = (&old.lists["all"], &new.lists["all"]);
        assert_eq!(old.config.required_state, new.config.required_state);
        assert!(old.config.required_state.lazy_members);
        assert_eq!(old.config.required_state.include[0].state_key.as_deref(), Some("@me:here"));
        for list in [old, new] {
            assert_eq!(list.spans(30).collect::<Vec<_>>(), vec![0..20]);
            assert!(list.part(0) == list.part(19) && list.part(19) != list.part(20));
            assert_eq!(list.filters.as_ref().unwrap().is_invite, Some(false));
        }
    }

    #[test]
    fn what_is_not_bounded_is_refused() {
        let lists: BTreeMap<_, _> = (0..101).map(|n| (n.to_string(), json!({ "timeline_limit": 1 }))).collect();
        let mut many: Request = serde_json::from_value(json!({ "lists": lists })).unwrap();
        assert!(many.prepare(ruma::user_id!("@me:here")).is_err());
        let long = request(json!({ "lists": { "a": { "timeline_limit": 1_000_000 } } }));
        assert_eq!(long.lists["a"].config.timeline_limit, TIMELINE_MAX);
    }
}
