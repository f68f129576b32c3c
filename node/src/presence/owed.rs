//! What the servers of classic rooms have not heard of the presence of our users: the latest, never a backlog. One that is
//! a contact too hears it over the link, while it is there.

use millpond_store::{Topic, View, tables};
use ruma::{
    OwnedServerName, OwnedUserId, ServerName, UInt, UserId,
    api::federation::transactions::edu::{Edu, PresenceContent, PresenceUpdate},
    presence::PresenceState,
};

use super::{Presence, shown};
use crate::{Error, rooms::rows, shared_rooms};

/// The `m.presence` EDU of one transaction, if there is something to tell.
#[derive(Clone, Debug, Default)]
pub struct PresenceEdus {
    /// JSON.
    pub edus: Vec<String>,
    /// Who is told of, and of which change.
    sent: Vec<(OwnedUserId, u64)>,
}

impl PresenceEdus {
    /// Tells one set of changes from another that reads the same.
    pub fn last(&self) -> u64 {
        self.sent.iter().map(|(_, serial)| *serial).max().unwrap_or_default()
    }
}

impl Presence {
    /// Notes that the classic servers in classic rooms of a local user are to hear of a change; gives whom to wake.
    pub(super) fn owe(&self, view: View<'_>, user: &UserId) -> Result<Option<Topic>, Error> {
        let us = self.core.identity();
        if !us.is_dns_named() || !us.is_our_user(user) {
            return Ok(None);
        }
        let mut woken = None;
        for room in shared_rooms::joined_rooms(view, user)? {
            if rows::room_row(view, room)?.overlay {
                continue;
            }
            for row in view.scan(tables::ROOM_SERVERS, (room,))? {
                let ((_, server), _) = row?;
                if us.is_ours(&server) {
                    continue;
                }
                let mut state = self.lock();
                if state.owed.len() < SERVERS_MAX || state.owed.contains_key(&server) {
                    state.owed.entry(server.clone()).or_default().insert(user.to_owned());
                }
                woken = Some(Topic::Outbox(server));
            }
        }
        Ok(woken)
    }

    /// Whether a server has something to hear.
    pub(crate) fn owes(&self, server: &ServerName) -> bool {
        self.lock().owed.contains_key(server)
    }

    /// The servers that have something to hear.
    pub(crate) fn servers_owed(&self) -> Vec<OwnedServerName> {
        self.lock().owed.keys().cloned().collect()
    }

    /// What a server has not heard of.
    ///
    /// # Errors
    /// An EDU that does not serialise: a bug.
    pub(crate) fn edus(&self, destination: &ServerName, limit: usize) -> Result<PresenceEdus, Error> {
        let mut found = PresenceEdus::default();
        if limit == 0 {
            return Ok(found);
        }
        let now_ms = self.core.clock().now_ms();
        let mut updates = Vec::new();
        {
            let state = self.lock();
            for user in state.owed.get(destination).into_iter().flatten().take(USERS_AT_ONCE) {
                let known = state.users.get(user);
                let shown = known.map(|known| shown(known, now_ms)).unwrap_or_default();
                let ago = UInt::new_saturating(shown.active_ago_ms.unwrap_or_default());
                let active = shown.state == PresenceState::Online;
                let mut update = PresenceUpdate::new(user.clone(), shown.state, ago);
                (update.status_msg, update.currently_active) = (shown.status, active);
                updates.push(update);
                found.sent.push((user.clone(), known.map_or(0, |known| known.changed)));
            }
        }
        if !updates.is_empty() {
            let edu = serde_json::to_string(&Edu::Presence(PresenceContent::new(updates)));
            found.edus.push(edu.map_err(|e| Error::internal(format!("presence is no JSON: {e}")))?);
        }
        Ok(found)
    }

    /// Notes that a server has what it was sent.
    pub fn delivered(&self, destination: &ServerName, sent: &PresenceEdus) {
        let mut state = self.lock();
        for (user, serial) in &sent.sent {
            let changed = state.users.get(user).map_or(0, |known| known.changed);
            if changed <= *serial
                && let Some(owed) = state.owed.get_mut(destination)
            {
                owed.remove(user);
            }
        }
        state.owed.retain(|_, owed| !owed.is_empty());
    }
}

/// Users of one EDU.
const USERS_AT_ONCE: usize = 50;
/// Servers that are kept in mind.
const SERVERS_MAX: usize = 10_000;
