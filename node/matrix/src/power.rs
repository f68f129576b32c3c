//! Who may do what, by the current power levels: for answers to clients, for redactions and for push rules. Auth itself
//! asks ruma's rules.

use std::collections::{BTreeMap, HashSet};

use ruma::{
    Int, OwnedUserId, UserId,
    events::{TimelineEventType, room::power_levels::UserPowerLevel},
    power_levels::NotificationPowerLevels,
    push::PushConditionPowerLevelsCtx,
    room_version_rules::RoomPowerLevelsRules,
    state_res::events::{
        RoomCreateEvent, RoomPowerLevelsEvent,
        RoomPowerLevelsIntField::{self, Ban, EventsDefault, Invite, Kick, Redact, StateDefault, UsersDefault},
    },
};
use serde::Deserialize;

use crate::{Pdu, RoomRules};

/// The power levels of a room.
#[derive(Clone, Debug)]
pub struct Powers {
    creators: HashSet<OwnedUserId>,
    privileged: bool,
    has_event: bool,
    levels: BTreeMap<RoomPowerLevelsIntField, Int>,
    users: BTreeMap<OwnedUserId, Int>,
    events: BTreeMap<TimelineEventType, Int>,
    notifications: NotificationPowerLevels,
    rules: RoomPowerLevelsRules,
}

impl Powers {
    /// Reads the create event and, if there is one, the power levels event.
    ///
    /// # Errors
    /// When a content breaks the rules of the room version; an accepted event's does not.
    pub fn of(rules: &RoomRules, create: &Pdu, power_levels: Option<&Pdu>) -> Result<Self, String> {
        let auth = &rules.room.authorization;
        let creators = RoomCreateEvent::new(create).creators(auth)?;
        let mut powers = Self {
            privileged: auth.explicitly_privilege_room_creators,
            has_event: power_levels.is_some(),
            levels: BTreeMap::new(),
            users: BTreeMap::new(),
            events: BTreeMap::new(),
            notifications: NotificationPowerLevels::new(),
            rules: RoomPowerLevelsRules::new(auth, creators.iter().cloned()),
            creators,
        };
        let Some(pdu) = power_levels else { return Ok(powers) };
        let event = RoomPowerLevelsEvent::new(pdu);
        for field in [UsersDefault, EventsDefault, StateDefault, Ban, Redact, Kick, Invite] {
            if let Some(level) = event.get_as_int(field, auth)? {
                powers.levels.insert(field, level);
            }
        }
        powers.users = event.users(auth)?.cloned().unwrap_or_default();
        powers.events = event.events(auth)?.unwrap_or_default();
        // What push rules read is not validated by auth: a malformed level falls back to the default.
        if let Ok(Notifications { notifications }) = pdu.content_as() {
            powers.notifications = notifications;
        }
        Ok(powers)
    }

    /// The creators, where the room version places them above all levels (12 and later); nobody before.
    pub fn privileged_creators(&self) -> impl Iterator<Item = &UserId> {
        self.creators.iter().filter(|_| self.privileged).map(|user| &**user)
    }

    /// The power of a user.
    pub fn user(&self, user: &UserId) -> UserPowerLevel {
        if self.creators.contains(user) && (self.privileged || !self.has_event) {
            // Without a power levels event, creators have 100 before version 12.
            return if self.privileged { UserPowerLevel::Infinite } else { Int::from(100).into() };
        }
        self.users.get(user).copied().unwrap_or_else(|| self.level(UsersDefault)).into()
    }

    /// The power that sending an event takes.
    pub fn required(&self, kind: &TimelineEventType, is_state: bool) -> Int {
        let default = if is_state { StateDefault } else { EventsDefault };
        self.events.get(kind).copied().unwrap_or_else(|| self.level(default))
    }

    /// Whether a joined user may send such an event.
    pub fn may_send(&self, user: &UserId, kind: &TimelineEventType, is_state: bool) -> bool {
        self.user(user) >= self.required(kind, is_state)
    }

    /// Whether the user may redact events of others.
    pub fn may_redact(&self, user: &UserId) -> bool {
        self.user(user) >= self.level(Redact)
    }

    /// Whether the user may invite.
    pub fn may_invite(&self, user: &UserId) -> bool {
        self.user(user) >= self.level(Invite)
    }

    /// Whether the user may kick the other.
    pub fn may_kick(&self, user: &UserId, target: &UserId) -> bool {
        self.user(user) >= self.level(Kick) && self.user(user) > self.user(target)
    }

    /// Whether the user may ban the other.
    pub fn may_ban(&self, user: &UserId, target: &UserId) -> bool {
        self.user(user) >= self.level(Ban) && self.user(user) > self.user(target)
    }

    /// Whether the user may lift the other's ban.
    pub fn may_unban(&self, user: &UserId, target: &UserId) -> bool {
        self.user(user) >= self.level(Ban) && self.may_kick(user, target)
    }

    /// Whether the user may notify the whole room.
    pub fn may_notify_room(&self, user: &UserId) -> bool {
        self.user(user) >= self.notifications.room
    }

    /// What the condition `sender_notification_permission` of push rules asks.
    pub fn push_context(&self) -> PushConditionPowerLevelsCtx {
        PushConditionPowerLevelsCtx::new(
            self.users.clone(),
            self.level(UsersDefault),
            self.notifications.clone(),
            self.rules.clone(),
        )
    }

    fn level(&self, field: RoomPowerLevelsIntField) -> Int {
        self.levels.get(&field).copied().unwrap_or_else(|| field.default_value())
    }
}

#[derive(Deserialize)]
struct Notifications {
    #[serde(default)]
    notifications: NotificationPowerLevels,
}
