//! Which state events go with a room, and which of them a client does not have yet.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use millpond_store::{
    Error, View,
    rows::{EventShort, RoomShort},
    tables,
};

use super::request::{Element, MEMBER, Required};
use crate::rooms::current;

impl Element {
    fn takes(&self, kind: &str, state_key: &str) -> bool {
        self.kind.as_ref().is_none_or(|own| own == kind) && self.state_key.as_ref().is_none_or(|own| own == state_key)
    }
}

impl Required {
    /// Whether an entry of the state is wanted. With lazy members only patterns that name the type take members.
    pub(super) fn takes(&self, kind: &str, state_key: &str) -> bool {
        let lazy = self.lazy_members && kind == MEMBER;
        let taken = self.include.iter().filter(|element| !lazy || element.kind.is_some());
        taken.into_iter().any(|element| element.takes(kind, state_key))
            && !self.exclude.iter().any(|element| element.takes(kind, state_key))
    }

    /// Whether everything that `other` asks for is asked for here, as far as a look can tell.
    fn covers(&self, other: &Self) -> bool {
        self == other
            || (other.include.iter().all(|element| self.include.contains(element))
                && self.exclude.iter().all(|element| other.exclude.contains(element))
                && self.lazy_members == other.lazy_members)
    }
}

/// What several rules ask of one room: what any of them asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Combined(Vec<Required>);

impl Combined {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Reads what [`Combined::to_json`] wrote; what does not read asks for nothing.
    pub(super) fn parse(json: &str) -> Self {
        Self(serde_json::from_str(json).unwrap_or_default())
    }

    /// As it is kept.
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(&self.0).expect("lists of texts serialise")
    }

    pub(super) fn add(&mut self, required: &Required) {
        if !self.0.iter().any(|known| known.covers(required)) {
            self.0.push(required.clone());
        }
    }

    pub(super) fn lazy_members(&self) -> bool {
        self.0.iter().any(|required| required.lazy_members)
    }

    pub(super) fn takes(&self, kind: &str, state_key: &str) -> bool {
        self.0.iter().any(|required| required.takes(kind, state_key))
    }

    /// Whether nothing is asked for here that `other` did not ask for.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        self.0.iter().all(|required| other.0.iter().any(|known| known.covers(required)))
    }

    /// The entries of the current state that are asked for, looked up one by one where that is possible.
    pub(super) fn entries(&self, view: View<'_>, room: RoomShort) -> Result<Entries, Error> {
        let mut entries = Entries::new();
        for required in &self.0 {
            for element in &required.include {
                match (&element.kind, &element.state_key) {
                    (Some(kind), Some(state_key)) => {
                        if let Some(event) = current::entry(view, room, kind, state_key)? {
                            entries.insert((kind.clone(), state_key.clone()), Some(event));
                        }
                    }
                    (Some(kind), None) => {
                        for row in view.scan(tables::ROOM_STATE, (room, kind.as_str()))? {
                            let ((_, kind, state_key), event) = row?;
                            entries.insert((kind, state_key), Some(event));
                        }
                    }
                    (None, _) => all(view, room, required.lazy_members, &mut entries)?,
                }
            }
        }
        entries.retain(|(kind, state_key), _| self.takes(kind, state_key));
        Ok(entries)
    }

    /// The entries that are asked for and that `other` did not ask for.
    pub(super) fn beyond(&self, view: View<'_>, room: RoomShort, other: &Self) -> Result<Entries, Error> {
        let mut entries = self.entries(view, room)?;
        entries.retain(|(kind, state_key), _| !other.takes(kind, state_key));
        Ok(entries)
    }
}

/// Entries of the state: (type, state key) to the event, or to none if it was removed.
pub(super) type Entries = BTreeMap<(String, String), Option<EventShort>>;

/// All entries, without the members if a client wants them lazily: they may be many.
fn all(view: View<'_>, room: RoomShort, lazy: bool, entries: &mut Entries) -> Result<(), Error> {
    let mut add = |row: Result<((RoomShort, String, String), EventShort), Error>| -> Result<(), Error> {
        let ((_, kind, state_key), event) = row?;
        entries.insert((kind, state_key), Some(event));
        Ok(())
    };
    if !lazy {
        return view.scan(tables::ROOM_STATE, (room,))?.try_for_each(&mut add);
    }
    let (first, members) = (Bound::Included((room, "", "")), Bound::Excluded((room, MEMBER, "")));
    view.range(tables::ROOM_STATE, first, members)?.try_for_each(&mut add)?;
    let after = Bound::Included((room, "m.room.member\0", ""));
    view.range(tables::ROOM_STATE, after, Bound::Excluded((RoomShort(room.0 + 1), "", "")))?.try_for_each(&mut add)
}

/// The member events of some users.
pub(super) fn members(
    view: View<'_>,
    room: RoomShort,
    users: &BTreeSet<String>,
) -> Result<Vec<(String, EventShort)>, Error> {
    let mut found = Vec::with_capacity(users.len());
    for user in users {
        if let Some(event) = current::entry(view, room, MEMBER, user)? {
            found.push((user.clone(), event));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn required(json: serde_json::Value) -> Required {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn patterns_take_types_keys_and_wildcards_and_leave_lazy_members_out() {
        let all = required(json!([["*", "*"]]));
        assert!(all.takes("m.room.name", "") && all.takes("m.room.member", "@a:b"));
        let lazy = required(json!([["*", "*"], ["m.room.member", "$LAZY"], ["m.room.member", "@me:b"]]));
        assert!(lazy.takes("m.room.name", "") && !lazy.takes("m.room.member", "@a:b"));
        assert!(lazy.takes("m.room.member", "@me:b"));
        let key = required(json!([["*", "k"], ["m.call.member", "*"]]));
        assert!(key.takes("m.anything", "k") && key.takes("m.call.member", "x") && !key.takes("m.room.name", ""));
        let without = required(json!({ "include": [{}], "exclude": [{ "type": "m.room.create" }] }));
        assert!(without.takes("m.room.name", "") && !without.takes("m.room.create", ""));
    }

    #[test]
    fn a_combination_asks_for_what_any_of_its_parts_asks() {
        let (name, topic) = (required(json!([["m.room.name", ""]])), required(json!([["m.room.topic", ""]])));
        let mut list = Combined::new();
        list.add(&name);
        let mut both = list.clone();
        both.add(&topic);
        assert!(list.is_within(&both) && !both.is_within(&list));
        assert!(both.takes("m.room.topic", "") && both.takes("m.room.name", ""));
        let back = Combined::parse(&both.to_json());
        assert!(both.is_within(&back) && back.is_within(&both));
        both.add(&name);
        assert_eq!(both.0.len(), 2);
        let mut lazy = list.clone();
        lazy.add(&required(json!([["m.room.member", "$LAZY"]])));
        assert!(!lazy.is_within(&list));
    }
}
