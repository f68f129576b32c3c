//! Every table of the database, with its key and its value.

use ruma::{OwnedDeviceId, OwnedEventId, OwnedRoomAliasId, OwnedRoomId, OwnedServerName, OwnedUserId};

use crate::rows::*;
use crate::table::tables;

tables! {
    /// Facts about the file itself: `layout`, `position`, and the node's own (`server_name` ...).
    META: String => Vec<u8>;

    // Accounts.

    /// Local accounts.
    ACCOUNTS: OwnedUserId => Account;
    /// Devices of local accounts.
    DEVICES: (OwnedUserId, OwnedDeviceId) => Device;
    /// Access tokens: SHA-256 of the token to its owner.
    TOKENS: [u8; 32] => TokenOwner;

    // Rooms: the DAG and the state.

    /// Room ids to their interned numbers.
    ROOM_IDS: OwnedRoomId => RoomShort;
    /// What is fixed about a room.
    ROOMS: RoomShort => Room;
    /// Event ids to their interned numbers.
    EVENT_IDS: OwnedEventId => EventShort;
    /// Events: what we know about each, and the signed JSON.
    EVENTS: EventShort => EventRow;
    /// The timeline of a room: live events at the position of their commit, backfilled ones at negative numbers,
    /// newest first. Rejected, soft-failed and outlier events are not in it.
    TIMELINE: (RoomShort, i64) => EventShort;
    /// (event type, state key) to its interned number.
    STATE_KEYS: (String, String) => StateKeyShort;
    /// The way back.
    STATE_KEY_NAMES: StateKeyShort => StateKeyName;
    /// State groups as differences to a parent.
    STATE_GROUPS: StateGroup => StateGroupRow;
    /// The current state of a room: (room, event type, state key).
    ROOM_STATE: (RoomShort, String, String) => EventShort;
    /// Each change of the current state, by the position of its commit.
    ROOM_STATE_LOG: (RoomShort, u64, StateKeyShort) => StateChange;
    /// The state group of the current state.
    ROOM_HEADS: RoomShort => StateGroup;
    /// Forward extremities.
    EXTREMITIES: (RoomShort, EventShort) => ();
    /// Backward extremities: events that are referred to and not here, with the depth of who refers.
    BACKWARD: (RoomShort, OwnedEventId) => u64;
    /// Which events of the timeline follow an event that came later than they or is missing:
    /// (room, earlier event, later event). Where events come in order nothing is written here.
    SUCCESSORS: (RoomShort, OwnedEventId, EventShort) => ();
    /// PDUs that wait for events they refer to.
    PARKED: (OwnedRoomId, OwnedEventId) => ParkedPdu;
    /// Which parked PDUs wait for an event: (missing event, parked event).
    PARKED_ON: (OwnedEventId, OwnedEventId) => OwnedRoomId;
    /// Redactions that came before the event they redact: (room, redacted event).
    EARLY_REDACTIONS: (RoomShort, OwnedEventId) => EventShort;
    /// Relations: (target, position of the relating event in the timeline).
    RELATIONS: (OwnedEventId, i64) => Relation;

    // Rooms: who is in them.

    /// The current membership of every user we know of, local or not: (user, room).
    MEMBERSHIPS: (OwnedUserId, RoomShort) => Membership;
    /// Stripped state shown to a local user who was invited or knocked: a JSON array.
    STRIPPED: (OwnedUserId, RoomShort) => String;
    /// Joined and invited members of a room.
    ROOM_COUNTS: RoomShort => RoomCounts;
    /// Servers in a room with the number of their joined members.
    ROOM_SERVERS: (RoomShort, OwnedServerName) => u64;
    /// Aliases made here.
    ALIASES: OwnedRoomAliasId => Alias;
    /// The aliases of a room.
    ROOM_ALIASES: (OwnedRoomId, OwnedRoomAliasId) => ();
    /// Rooms in the public directory.
    PUBLISHED: OwnedRoomId => ();
    /// Transaction ids of clients: (user, device, `scope/txn_id`) to the answer given (an event id, or empty).
    TXN_IDS: (OwnedUserId, OwnedDeviceId, String) => String;
    /// Receipts: (room, user, receipt type, thread or empty).
    RECEIPTS: (RoomShort, OwnedUserId, String, String) => Receipt;
    /// Receipts in the order of their commits.
    RECEIPT_LOG: (RoomShort, u64) => ReceiptKey;

    // What users keep.

    /// Account data: (user, room id or empty, type).
    ACCOUNT_DATA: (OwnedUserId, String, String) => AccountData;
    /// Account data in the order of their commits, the newest entry of each key only: (user, position).
    ACCOUNT_DATA_LOG: (OwnedUserId, u64) => AccountDataKey;

    // Between nodes.

    /// The overlay's records: (kind, id in hex) to opaque, secret bytes.
    LINKS: (u8, String) => Vec<u8>;
    /// What we know of other servers.
    PEERS: OwnedServerName => Peer;
    /// Key documents of other servers, as they signed them.
    KEY_DOCUMENTS: OwnedServerName => Vec<u8>;
    /// PDUs that a peer has sent and that are not judged yet, in the order of their commits.
    INBOX: u64 => StagedPdu;
    /// Transactions of peers that were staged: (origin, transaction id), with the time in ms.
    INBOX_TXNS: (OwnedServerName, String) => u64;
    /// What is owed to each destination: (destination, position).
    OUTBOX: (OwnedServerName, u64) => OutboxItem;
}
