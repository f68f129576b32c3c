//! Whom this node has nothing to do with: the servers and users that its owner has blocked, and those that the policy lists
//! name which he follows (client-server API, "Moderation policy lists"). A list is a room that a user here is in; its rules are
//! read again when its state has changed.

use std::sync::{Arc, Mutex, PoisonError};

use millpond_matrix::StateGroup;
use millpond_store::{View, rows::RoomShort, tables};
use ruma::{OwnedRoomId, RoomId, ServerName, UserId};
use serde::Deserialize;

use crate::{
    Error,
    config::{Blocked, glob},
    rooms::rows,
};

/// Rules of one kind that are taken from one list.
const MAX_RULES: usize = 50_000;
/// Bytes of an entity: no id is longer.
const MAX_ENTITY: usize = 255;

/// Who is kept out.
pub struct Guard {
    blocked: Blocked,
    lists: Vec<OwnedRoomId>,
    read: Mutex<Arc<Rules>>,
}

/// The rules of all lists, as of a state of each; none for a list that is not here.
#[derive(Default)]
struct Rules {
    as_of: Vec<Option<StateGroup>>,
    users: Vec<Rule>,
    servers: Vec<Rule>,
    rooms: Vec<Rule>,
}

struct Rule {
    /// In lower case.
    entity: String,
    reason: String,
}

impl Guard {
    /// Blocks these, and whom these lists name.
    pub fn new(blocked: Blocked, lists: Vec<OwnedRoomId>) -> Self {
        Self { blocked, lists, read: Mutex::default() }
    }

    /// That a server is not kept out.
    ///
    /// # Errors
    /// 403 with the reason that a list gives.
    pub fn check_server(&self, view: View<'_>, server: &ServerName) -> Result<(), Error> {
        if self.blocked.has_server(server) {
            return Err(Error::forbidden("your server is not answered here"));
        }
        let rules = self.rules(view)?;
        let (name, host) = (server.as_str().to_lowercase(), server.host().to_lowercase());
        let names = |rule: &&Rule| glob(&rule.entity, &name) || glob(&rule.entity, &host);
        refused(rules.servers.iter().find(names), "your server is not answered here")
    }

    /// That neither a user nor his server is kept out.
    ///
    /// # Errors
    /// As [`Guard::check_server`].
    pub fn check_user(&self, view: View<'_>, user: &UserId) -> Result<(), Error> {
        if self.blocked.has_user(user) {
            return Err(Error::forbidden("that user is kept out of this server"));
        }
        self.check_server(view, user.server_name())?;
        let (rules, id) = (self.rules(view)?, user.as_str().to_lowercase());
        refused(rules.users.iter().find(|rule| glob(&rule.entity, &id)), "that user is kept out of this server")
    }

    /// That a room is not kept out.
    ///
    /// # Errors
    /// As [`Guard::check_server`].
    pub fn check_room(&self, view: View<'_>, room: &RoomId) -> Result<(), Error> {
        let (rules, id) = (self.rules(view)?, room.as_str().to_lowercase());
        refused(rules.rooms.iter().find(|rule| glob(&rule.entity, &id)), "that room is kept out of this server")
    }

    fn rules(&self, view: View<'_>) -> Result<Arc<Rules>, Error> {
        let mut rooms = Vec::with_capacity(self.lists.len());
        for list in &self.lists {
            let room = rows::room_short(view, list)?;
            let head = room.map(|room| view.get(tables::ROOM_HEADS, room)).transpose()?.flatten();
            rooms.push(room.zip(head));
        }
        let as_of: Vec<_> = rooms.iter().map(|found| found.as_ref().map(|(_, head)| head.group)).collect();
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if read.as_of != as_of {
            let mut rules = Rules { as_of, ..Rules::default() };
            for (room, _) in rooms.into_iter().flatten() {
                take(view, room, "m.policy.rule.user", &mut rules.users)?;
                take(view, room, "m.policy.rule.server", &mut rules.servers)?;
                take(view, room, "m.policy.rule.room", &mut rules.rooms)?;
            }
            *read = Arc::new(rules);
        }
        Ok(read.clone())
    }
}

/// Takes the rules of one kind from a list. What is no ban is no rule for us; a rule that was taken back has no entity.
fn take(view: View<'_>, room: RoomShort, kind: &str, rules: &mut Vec<Rule>) -> Result<(), Error> {
    #[derive(Deserialize)]
    struct Content {
        entity: String,
        recommendation: String,
        #[serde(default)]
        reason: String,
    }
    for row in view.scan(tables::ROOM_STATE, (room, kind))?.take(MAX_RULES) {
        let row = rows::event(view, row?.1)?;
        let Ok(content) = serde_json::from_str::<Content>(row.header.content.of(&row.json)) else { continue };
        if content.recommendation == "m.ban" && (1..=MAX_ENTITY).contains(&content.entity.len()) {
            let mut reason = content.reason;
            reason.truncate(reason.floor_char_boundary(MAX_ENTITY));
            rules.push(Rule { entity: content.entity.to_lowercase(), reason });
        }
    }
    Ok(())
}

fn refused(by: Option<&Rule>, words: &str) -> Result<(), Error> {
    match by {
        None => Ok(()),
        Some(rule) if rule.reason.is_empty() => Err(Error::forbidden(words)),
        Some(rule) => Err(Error::forbidden(format!("{words}: {}", rule.reason))),
    }
}
