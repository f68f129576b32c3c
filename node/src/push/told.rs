//! Which events of a room one user is told of, event by event: what `/notifications` lists and push gateways get.

use std::collections::BTreeSet;

use millpond_store::{
    View,
    rows::{EventRow, RoomShort},
};
use ruma::{
    OwnedUserId, UserId,
    push::{Action, Ruleset},
};
use serde_json::value::RawValue;

use super::{Read, is_own_join, read, rule::Judge};
use crate::{Error, json::unquote, push_rules, threads, timeline::reader};

/// What a user wishes to hear: the same for all rooms.
pub(crate) struct Wishes {
    rules: Ruleset,
    ignored: BTreeSet<OwnedUserId>,
}

impl Wishes {
    /// Those of a user.
    ///
    /// # Errors
    /// Storage errors.
    pub(crate) fn of(view: View<'_>, user: &UserId) -> Result<Self, Error> {
        Ok(Self { rules: push_rules::ruleset(view, user)?, ignored: reader::ignored(view, user)? })
    }

    /// The actions for an event that we have no row of, as somebody outside is shown it; none if it is not told of.
    ///
    /// # Errors
    /// Storage errors.
    pub(crate) fn actions_for(
        &self,
        view: View<'_>,
        user: &UserId,
        room: RoomShort,
        sender: &str,
        event: &RawValue,
    ) -> Result<Option<Vec<Action>>, Error> {
        if self.ignored.iter().any(|ignored| *ignored == *sender) {
            return Ok(None);
        }
        let actions = Judge::new(view, room, user)?.actions_of_json(&self.rules, event.get().to_owned());
        Ok(actions.iter().any(Action::should_notify).then_some(actions))
    }
}

/// Listens to a room in a user's stead.
pub(crate) struct Ear<'a> {
    view: View<'a>,
    user: &'a UserId,
    room: RoomShort,
    wishes: &'a Wishes,
    read: Read,
    judge: Option<Judge>,
}

/// What an event is to the user.
#[derive(Debug)]
pub(crate) enum Heard {
    /// Nothing to be told of.
    Nothing,
    /// The user's own join: what is older is not for him.
    OwnJoin,
    /// Something to be told of.
    Told(Told),
}

/// How the user is told of an event.
#[derive(Debug)]
pub(crate) struct Told {
    /// The actions of the rule that matched.
    pub(crate) actions: Vec<Action>,
    /// The user has a receipt there or later.
    pub(crate) read: bool,
}

impl Told {
    /// Whether it mentions the user, mostly.
    pub(crate) fn highlights(&self) -> bool {
        self.actions.iter().any(Action::is_highlight)
    }
}

impl<'a> Ear<'a> {
    /// For a room that the user is, or is invited to be, in.
    ///
    /// # Errors
    /// Storage errors.
    pub(crate) fn new(view: View<'a>, user: &'a UserId, room: RoomShort, wishes: &'a Wishes) -> Result<Self, Error> {
        Ok(Self { view, user, room, wishes, read: read(view, user, room)?.0, judge: None })
    }

    /// What the event at a position of the room's timeline is to the user.
    ///
    /// # Errors
    /// Storage errors.
    pub(crate) fn hear(&mut self, position: i64, event: &EventRow) -> Result<Heard, Error> {
        let sender = unquote(event.header.sender.of(&event.json));
        if sender == self.user.as_str() {
            return Ok(if is_own_join(self.view, event)? { Heard::OwnJoin } else { Heard::Nothing });
        }
        if event.meta.redacted_by.is_some() || self.wishes.ignored.iter().any(|ignored| *ignored == *sender) {
            return Ok(Heard::Nothing);
        }
        if self.judge.is_none() {
            self.judge = Some(Judge::new(self.view, self.room, self.user)?);
        }
        let Some(judge) = &self.judge else { return Ok(Heard::Nothing) };
        let actions = judge.actions(&self.wishes.rules, event);
        if !actions.iter().any(Action::should_notify) {
            return Ok(Heard::Nothing);
        }
        let thread = threads::of(self.view, self.room, event)?;
        let read = position <= self.read.up_to(thread.as_ref());
        Ok(Heard::Told(Told { actions, read }))
    }
}
