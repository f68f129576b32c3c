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
    /// Devices that are kept for users while nobody is logged in with them.
    DEHYDRATED: OwnedUserId => DehydratedDevice;
    /// Access tokens: SHA-256 of the token to its owner.
    TOKENS: [u8; 32] => TokenOwner;
    /// Refresh tokens: SHA-256 of the token to its owner.
    REFRESH_TOKENS: [u8; 32] => TokenOwner;
    /// What administrators did to accounts.
    ACCOUNT_MARKS: OwnedUserId => AccountMarks;
    /// What users reported, by position.
    REPORTS: u64 => UserReport;

    /// OAuth clients by their ids.
    OAUTH_CLIENTS: String => OAuthClient;
    /// Authorisation codes and device codes: SHA-256 of the code.
    OAUTH_CODES: [u8; 32] => OAuthCode;
    /// Browsers that are signed in on our pages: SHA-256 of the cookie.
    OAUTH_BROWSERS: [u8; 32] => OAuthBrowser;
    /// Who approved that his cross-signing keys are replaced, and until when, in milliseconds since the epoch.
    OAUTH_RESETS: OwnedUserId => u64;
    /// OpenID tokens: SHA-256 of the token.
    OPENID_TOKENS: [u8; 32] => OpenIdToken;
    /// Pushers: (user, app id, pushkey).
    PUSHERS: (OwnedUserId, String, String) => Pusher;

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
    /// The state group of the current state, and when something happened last that people would look at.
    ROOM_HEADS: RoomShort => RoomHead;
    /// Forward extremities.
    EXTREMITIES: (RoomShort, EventShort) => ();
    /// Backward extremities: events that are referred to and not here, with the depth of who refers.
    BACKWARD: (RoomShort, OwnedEventId) => u64;
    /// Gaps in the middle of a timeline: (room, position of the event before which history is missing).
    GAPS: (RoomShort, i64) => Gap;
    /// When a gap was last filled after clients had gone past it: the position of the commit.
    FILLED: RoomShort => u64;
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

    /// The search index: (word, room, first event of the block). Written after the event's own commit.
    SEARCH_WORDS: (String, RoomShort, EventShort) => Postings;

    // Rooms: who is in them.

    /// The current membership of every user we know of, local or not: (user, room).
    MEMBERSHIPS: (OwnedUserId, RoomShort) => Membership;
    /// Stripped state shown to a local user who was invited or knocked: a JSON array.
    STRIPPED: (OwnedUserId, RoomShort) => String;
    /// What came with a local user's invite, until it is taken or refused: (user, room).
    INVITE_SNAPSHOTS: (OwnedUserId, OwnedRoomId) => InviteSnapshot;
    /// Rooms that we entered by one server's description, until a second one names the same state.
    UNCONFIRMED: RoomShort => Unconfirmed;
    /// Rooms that we joined with a part of their state, until the rest is here.
    PARTIAL: RoomShort => Partial;
    /// The position at which the state of such a room was whole.
    WHOLE: RoomShort => u64;
    /// Joined and invited members of a room.
    ROOM_COUNTS: RoomShort => RoomCounts;
    /// Servers in a room with the number of their joined members. In a partial room 0: the server that described it says so.
    ROOM_SERVERS: (RoomShort, OwnedServerName) => u64;
    /// Aliases made here.
    ALIASES: OwnedRoomAliasId => Alias;
    /// The aliases of a room.
    ROOM_ALIASES: (OwnedRoomId, OwnedRoomAliasId) => ();
    /// Rooms in the public directory.
    PUBLISHED: OwnedRoomId => ();
    /// Transactions of clients ([`txn_key`]) to the event that was made, or 0.
    TXNS: TxnKey => EventShort;
    /// Delayed events, by their delay ids.
    DELAYED_EVENTS: String => DelayedEvent;
    /// Those that wait, in the order of their times: (milliseconds since the epoch, delay id).
    DELAYED_DUE: (u64, String) => ();
    /// Those of each user: (user, delay id).
    DELAYED_OF: (OwnedUserId, String) => ();
    /// Receipts: (room, user, receipt type, thread or empty).
    RECEIPTS: (RoomShort, OwnedUserId, String, String) => Receipt;
    /// Receipts in the order of their commits.
    RECEIPT_LOG: (RoomShort, u64) => ReceiptKey;

    /// From which position on a server has not heard of the receipts of our users in a room: (server, room).
    RECEIPTS_OWED: (OwnedServerName, RoomShort) => u64;

    /// Receipts of peers that came before their event: (room, user, thread or empty).
    EARLY_RECEIPTS: (RoomShort, OwnedUserId, String) => EarlyReceipt;

    // What users keep.

    /// Account data: (user, room id or empty, type).
    ACCOUNT_DATA: (OwnedUserId, String, String) => AccountData;
    /// Account data in the order of their commits, the newest entry of each key only: (user, position).
    ACCOUNT_DATA_LOG: (OwnedUserId, u64) => AccountDataKey;
    /// Profiles of local users: (user, field) to the value as JSON.
    PROFILES: (OwnedUserId, String) => String;
    /// What local users wrote about their presence.
    PRESENCE_STATUS: OwnedUserId => String;
    /// Users who can be found: the display name that the words of the next table come from.
    DIRECTORY_NAMES: OwnedUserId => String;
    /// The words by which they are found: `word user_id`, the word in lower case.
    DIRECTORY_WORDS: String => OwnedUserId;
    /// E-mail addresses and phone numbers of local users: (user, medium, address).
    THREEPIDS: (OwnedUserId, String, String) => Threepid;
    /// Whose those are by which an account can be entered: (medium, address).
    THREEPID_OWNERS: (String, String) => OwnedUserId;
    /// Sync filters: (user, filter id) to the filter as JSON.
    FILTERS: (OwnedUserId, String) => String;
    /// Connections of sliding sync: (user, device, connection id).
    SLIDING: (OwnedUserId, OwnedDeviceId, String) => SlidingConnection;
    /// Media: (server name, media id). The content is a file under `media/`.
    MEDIA: (OwnedServerName, String) => Media;
    /// Media of peers that somebody asked for while their server slept: (server, media id), with the time in ms.
    MEDIA_WANTED: (OwnedServerName, String) => u64;
    /// Media ids made and not yet uploaded: (creator, media id) to when they expire, in milliseconds since the epoch.
    MEDIA_PENDING: (OwnedUserId, String) => u64;

    /// What pages say about themselves, by URL.
    PREVIEWS: String => Preview;

    // End-to-end encryption.

    /// Identity keys of local devices: the signed JSON as uploaded, without `unsigned`.
    DEVICE_KEYS: (OwnedUserId, OwnedDeviceId) => String;
    /// One-time keys of local devices in the order of upload: (user, device, algorithm, position).
    ONE_TIME_KEYS: (OwnedUserId, OwnedDeviceId, String, u64) => OneTimeKeyRow;
    /// Where a one-time key stands: (user, device, `algorithm:id`) to its position.
    ONE_TIME_KEY_IDS: (OwnedUserId, OwnedDeviceId, String) => u64;
    /// Fallback keys: (user, device, algorithm).
    FALLBACK_KEYS: (OwnedUserId, OwnedDeviceId, String) => FallbackKeyRow;
    /// How many one-time keys are left and which fallback keys are unused, for `/sync`.
    KEY_COUNTS: (OwnedUserId, OwnedDeviceId) => KeyCounts;
    /// Cross-signing keys of local users, and of remote ones as their server told last: (user, usage).
    CROSS_SIGNING_KEYS: (OwnedUserId, String) => String;
    /// Signatures that came after the key: (owner, device id or public key, signer, signing key id).
    KEY_SIGNATURES: (OwnedUserId, String, OwnedUserId, String) => String;
    /// The newest change of each user's device list, local or remote, by position.
    DEVICE_LIST_LOG: u64 => OwnedUserId;
    /// Where a user stands in the log.
    DEVICE_LIST_HEAD: OwnedUserId => u64;
    /// Whose master key a local user signed: (signer, position). Only the signer sees it.
    SIGNATURE_LOG: (OwnedUserId, u64) => OwnedUserId;
    /// The newest change of each local device and of each local user's cross-signing keys, to be told to peers.
    DEVICE_OUT_LOG: u64 => DeviceOut;
    /// Where a device (or, empty, the cross-signing keys) stands in that log.
    DEVICE_OUT_HEAD: (OwnedUserId, String) => u64;
    /// Up to where a destination was told.
    DEVICE_OUT_CURSOR: OwnedServerName => u64;
    /// The last `stream_id` that a destination was told for a user.
    DEVICE_OUT_SENT: (OwnedServerName, OwnedUserId) => u64;
    /// Device lists of remote users that we keep.
    REMOTE_LISTS: (OwnedServerName, OwnedUserId) => RemoteList;
    /// Their devices.
    REMOTE_DEVICES: (OwnedUserId, OwnedDeviceId) => RemoteDevice;
    /// To-device events that wait for a device, as JSON: (user, device, position).
    TO_DEVICE: (OwnedUserId, OwnedDeviceId, u64) => String;
    /// To-device messages of peers that came already: (origin, message id) to its number.
    TO_DEVICE_SEEN: (OwnedServerName, String) => u64;
    /// The same by number, so that the oldest can be forgotten.
    TO_DEVICE_SEEN_LOG: (OwnedServerName, u64) => String;
    /// Versions of server-side key backups.
    BACKUPS: (OwnedUserId, u64) => Backup;
    /// Backed-up sessions, JSON: (user, version, room, session id).
    BACKUP_KEYS: (OwnedUserId, u64, OwnedRoomId, String) => String;

    // Key packs.

    /// Packs of local users that may have to be made anew, in the order of the changes.
    KEY_PACKS_DUE: u64 => PackDue;
    /// The packs that peers hold of local users: (peer, user).
    KEY_PACKS_SENT: (OwnedServerName, OwnedUserId) => PackSent;
    /// Packs that are owed to peers: (peer, user).
    KEY_PACKS_OWED: (OwnedServerName, OwnedUserId) => PackOwed;
    /// How many one-time keys of a local device are in packs of all peers.
    KEY_PACKS_OUT: (OwnedUserId, OwnedDeviceId) => u64;
    /// Keys of devices of a peer's users, from its packs: (peer, user, device).
    KEY_PACKS: (OwnedServerName, OwnedUserId, OwnedDeviceId) => KeyPack;
    /// The version of the pack that we hold of a peer's user: (peer, user).
    KEY_PACK_VERSIONS: (OwnedServerName, OwnedUserId) => u64;

    // Between nodes.

    /// The overlay's records: (kind, id in hex) to opaque, secret bytes.
    LINKS: (u8, String) => Vec<u8>;
    /// What we know of other servers.
    PEERS: OwnedServerName => Peer;
    /// Key documents of other servers, as they signed them.
    KEY_DOCUMENTS: OwnedServerName => Vec<u8>;
    /// Signing keys of servers with a name in the DNS.
    SERVER_KEYS: OwnedServerName => ServerKeys;
    /// Nodes that say they have a name in the DNS, by the names that their keys make.
    NAMED_NODES: OwnedServerName => NamedNode;
    /// Names in the DNS to the nodes that have proven to speak for them.
    NODE_NAMES: OwnedServerName => OwnedServerName;
    /// Soft-failed events that were passed on: (room, server of their senders).
    PASSED_ON: (RoomShort, OwnedServerName) => PassedOn;
    /// PDUs that a peer has sent and that are not judged yet, in the order of their commits.
    INBOX: u64 => StagedPdu;
    /// How many rows of the inbox are of a peer.
    INBOX_WAITING: OwnedServerName => u64;
    /// Transactions of peers that were staged: (origin, transaction id), with the time in ms.
    INBOX_TXNS: (OwnedServerName, String) => u64;
    /// Items out of mailboxes that are not worked off yet, in the order of their commits.
    MAIL_IN: u64 => MailIn;
    /// Invites that a peer has taken out of its mailbox and not answered yet: (peer, position in the outbox).
    MAIL_INVITES: (OwnedServerName, u64) => EventShort;
    /// Questions of ours that travel over mailboxes: (peer, position), which is also where the outbox owes them.
    MAIL_ASKED: (OwnedServerName, u64) => MailAsked;
    /// What is owed to each destination: (destination, position).
    OUTBOX: (OwnedServerName, u64) => OutboxItem;
    /// What a destination refuses for what it is, until the next start: (destination, position in the outbox).
    SET_ASIDE: (OwnedServerName, u64) => SetAside;
}
