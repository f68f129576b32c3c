//! Room event filters, matched on stored rows without a parse (client-server spec, "Filtering").

use millpond_store::rows::EventRow;
use ruma::{
    RoomId,
    api::client::filter::{LazyLoadOptions, RoomEventFilter, UrlFilter},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json::unquote;

/// A filter that is asked of many events.
pub(crate) struct Select<'f> {
    filter: &'f RoomEventFilter,
    /// It lets everything through.
    open: bool,
}

impl<'f> Select<'f> {
    pub(crate) fn new(filter: &'f RoomEventFilter) -> Self {
        let open = filter.types.is_none()
            && filter.not_types.is_empty()
            && filter.senders.is_none()
            && filter.not_senders.is_empty()
            && filter.url_filter.is_none();
        Self { filter, open }
    }

    /// Whether it takes every event of the rooms that it takes.
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// Whether it takes events of a room at all.
    pub(crate) fn takes_room(&self, room_id: &RoomId) -> bool {
        takes_room(self.filter.rooms.as_deref(), &self.filter.not_rooms, room_id)
    }

    /// Whether it takes an event.
    pub(crate) fn takes(&self, row: &EventRow) -> bool {
        if self.open {
            return true;
        }
        let sender = row.header.sender.of(&row.json);
        self.takes_kind(&unquote(row.header.kind.of(&row.json)))
            && self.takes_sender(&unquote(sender))
            && self.takes_url(row.header.content.of(&row.json))
    }

    /// Whether it takes an event that is no room event: account data, receipts, typing.
    pub(crate) fn takes_kind(&self, kind: &str) -> bool {
        takes_kind(self.filter.types.as_deref(), &self.filter.not_types, kind)
    }

    fn takes_sender(&self, sender: &str) -> bool {
        !self.filter.not_senders.iter().any(|id| id == sender)
            && self.filter.senders.as_ref().is_none_or(|senders| senders.iter().any(|id| id == sender))
    }

    fn takes_url(&self, content: &str) -> bool {
        match &self.filter.url_filter {
            None => true,
            Some(UrlFilter::EventsWithUrl) => has_url(content),
            Some(UrlFilter::EventsWithoutUrl) => !has_url(content),
        }
    }

    /// How many events it asks for at most.
    pub(crate) fn limit(&self, default: usize, most: usize) -> usize {
        let asked = self.filter.limit.map(|limit| usize::try_from(u64::from(limit)).unwrap_or(most));
        asked.unwrap_or(default).min(most)
    }

    /// Whether only the members are wanted whose events are shown.
    pub(crate) fn lazy_members(&self) -> bool {
        !self.filter.lazy_load_options.is_disabled()
    }

    /// Whether members are wanted that the device has been sent before.
    pub(crate) fn redundant_members(&self) -> bool {
        matches!(self.filter.lazy_load_options, LazyLoadOptions::Enabled { include_redundant_members: true })
    }
}

/// Whether lists of wanted and unwanted rooms take a room.
pub(crate) fn takes_room(rooms: Option<&[ruma::OwnedRoomId]>, not: &[ruma::OwnedRoomId], room_id: &RoomId) -> bool {
    !not.iter().any(|id| id == room_id) && rooms.is_none_or(|rooms| rooms.iter().any(|id| id == room_id))
}

/// Whether lists of wanted and unwanted types take a type.
pub(crate) fn takes_kind(types: Option<&[String]>, not: &[String], kind: &str) -> bool {
    !not.iter().any(|pattern| glob(pattern, kind))
        && types.is_none_or(|types| types.iter().any(|pattern| glob(pattern, kind)))
}

/// `*` stands for any sequence of characters.
fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

fn has_url(content: &str) -> bool {
    #[derive(Deserialize)]
    struct Content<'a> {
        #[serde(borrow)]
        url: &'a RawValue,
    }
    // Most contents have none: a search of bytes is cheaper than a parse.
    content.contains("\"url\"")
        && serde_json::from_str::<Content<'_>>(content).is_ok_and(|content| content.url.get().starts_with('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, text) in [("m.*", "m.room"), ("*", ""), ("a*c*e", "abcde"), ("m.room", "m.room"), ("*x", "xx")] {
            assert!(glob(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("m.*", "n.m."), ("m.room", "m.rooms"), ("a*a", "a"), ("", "a"), ("a*c*e", "ace1")] {
            assert!(!glob(pattern, text), "{pattern} {text}");
        }
    }
}
