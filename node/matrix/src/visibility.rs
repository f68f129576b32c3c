//! Who may see an event, by the history visibility and the memberships around it.
//!
//! Client-server spec, "Room history visibility" (server behaviour); for servers, server-server spec, "Restrictions on
//! the events that a server may see" follows from the same rules for any user of that server.

use ruma::{
    ServerName, UserId,
    events::{
        TimelineEventType,
        room::{history_visibility::HistoryVisibility, member::MembershipState},
    },
};
use serde::Deserialize;

use crate::Pdu;

/// What the state at an event says about one reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// The history visibility.
    pub visibility: HistoryVisibility,
    /// The reader's membership.
    pub membership: MembershipState,
}

impl Sight {
    /// Reads the state's `m.room.history_visibility` and the reader's `m.room.member`; without them history is shared and the reader has left.
    pub fn of(visibility: Option<&Pdu>, member: Option<&Pdu>) -> Self {
        Self { visibility: history_visibility(visibility), membership: membership(member) }
    }

    /// Whether it shows the event to a reader who was, or was not, joined at some time after it.
    pub fn shows(&self, joined_later: bool) -> bool {
        use MembershipState::{Invite, Join};
        // 1. If the history_visibility was world_readable, allow.
        // 2. If the user's membership was join, allow.
        // 3. If history_visibility was shared, and the user joined at any point after the event was sent, allow.
        // 4. If the user's membership was invite, and the history_visibility was invited, allow.
        // 5. Otherwise, deny.
        match self.visibility {
            HistoryVisibility::WorldReadable => true,
            _ if self.membership == Join => true,
            HistoryVisibility::Joined => false,
            HistoryVisibility::Invited => self.membership == Invite,
            _ => joined_later,
        }
    }
}

/// Whether a user may see an event, given the state before it. `joined_later`: the user is joined now, or was at any
/// time after the event.
pub fn user_may_see(event: &Pdu, user: &UserId, before: &Sight, joined_later: bool) -> bool {
    if hidden(event) {
        return false;
    }
    // For events that change the visibility or the reader's own membership, either side of the change will do.
    before.shows(joined_later) || after(event, user, before).is_some_and(|after| after.shows(joined_later))
}

/// Whether a server that is in the room may see an event. `memberships` are those of its users in the state before the
/// event.
pub fn server_may_see(
    event: &Pdu,
    server: &ServerName,
    visibility: &HistoryVisibility,
    memberships: impl IntoIterator<Item = MembershipState>,
) -> bool {
    if hidden(event) {
        return false;
    }
    let changed =
        event.is_state(&TimelineEventType::RoomHistoryVisibility, "").then(|| history_visibility(Some(event)));
    let own = event
        .state_key()
        .filter(|_| *event.kind() == TimelineEventType::RoomMember)
        .and_then(|key| <&UserId>::try_from(key).ok());
    let own = own.filter(|user| user.server_name() == server).map(|_| membership(Some(event)));
    let mut memberships: Vec<_> = memberships.into_iter().chain(own).collect();
    memberships.push(MembershipState::Leave);
    let visibilities = std::iter::once(visibility.clone()).chain(changed);
    visibilities.into_iter().any(|visibility| {
        memberships
            .iter()
            .any(|membership| Sight { visibility: visibility.clone(), membership: membership.clone() }.shows(true))
    })
}

/// The visibility that a state event sets; `shared` when there is none or it is malformed.
pub fn history_visibility(event: Option<&Pdu>) -> HistoryVisibility {
    #[derive(Deserialize)]
    struct Content {
        history_visibility: HistoryVisibility,
    }
    let content = event.and_then(|event| event.content_as::<Content>().ok());
    match content.map(|content| content.history_visibility) {
        Some(HistoryVisibility::WorldReadable) => HistoryVisibility::WorldReadable,
        Some(HistoryVisibility::Joined) => HistoryVisibility::Joined,
        Some(HistoryVisibility::Invited) => HistoryVisibility::Invited,
        _ => HistoryVisibility::Shared,
    }
}

/// The membership that a member event sets; `leave` when there is none.
pub fn membership(event: Option<&Pdu>) -> MembershipState {
    #[derive(Deserialize)]
    struct Content {
        membership: MembershipState,
    }
    event
        .and_then(|event| event.content_as::<Content>().ok())
        .map_or(MembershipState::Leave, |content| content.membership)
}

fn hidden(event: &Pdu) -> bool {
    event.flags().rejected || event.flags().soft_failed
}

fn after(event: &Pdu, user: &UserId, before: &Sight) -> Option<Sight> {
    if event.is_state(&TimelineEventType::RoomHistoryVisibility, "") {
        return Some(Sight { visibility: history_visibility(Some(event)), membership: before.membership.clone() });
    }
    let own = event.is_state(&TimelineEventType::RoomMember, user.as_str());
    own.then(|| Sight { visibility: before.visibility.clone(), membership: membership(Some(event)) })
}
