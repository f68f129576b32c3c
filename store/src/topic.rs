//! Topics: what a commit touched, for those who wait. A wake-up says where to look, never what is there.

use ruma::{OwnedServerName, OwnedUserId};

use crate::rows::RoomShort;

/// Something that a waiter can wait for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// The room's timeline, state, receipts or typing changed.
    Room(RoomShort),
    /// Something of this user changed: memberships, account data, to-device messages, device lists, keys.
    User(OwnedUserId),
    /// A membership of this user changed, or the account data by which his rooms are told apart (direct chats, tags).
    UserRooms(OwnedUserId),
    /// There is new work for this destination.
    Outbox(OwnedServerName),
    /// There are new staged transactions.
    Inbox,
    /// Key packs of local users may have to be made anew.
    KeyPacks,
    /// There are new items out of mailboxes.
    Mail,
}
