//! The check finds each kind of damage to what needs no events; the rest is damaged in the node's crash test, which has a
//! whole homeserver to damage.

use millpond_store::{Error, Position, Store, WriteTxn, check::check, rows::*, tables};
use ruma::{
    device_id, event_id, owned_device_id, owned_event_id, owned_room_id, owned_user_id, room_id, server_name, user_id,
};

use crate::support::{inline, write};

const ROOM: RoomShort = RoomShort(1);
const TOKEN: [u8; 32] = [7; 32];
const REFRESH: [u8; 32] = [9; 32];

/// One row of each table that needs no event, and nothing wrong with them.
fn good(txn: &mut WriteTxn<'_>) -> Result<(), Error> {
    let (alice, device) = (user_id!("@alice:here"), device_id!("A"));
    let account = Account { password_hash: None, created_at_ms: 0, admin: false, deactivated: false };
    txn.put(tables::ACCOUNTS, alice, &account)?;
    let refresh = Refresh { token: REFRESH, next: None, previous: None };
    let row = Device { token_hash: Some(TOKEN), refresh: Some(refresh), ..Device::default() };
    txn.put(tables::DEVICES, (alice, device), &row)?;
    let owner = TokenOwner { user_id: alice.to_owned(), device_id: device.to_owned(), expires_at_ms: None };
    txn.put(tables::TOKENS, TOKEN, &owner)?;
    txn.put(tables::REFRESH_TOKENS, REFRESH, &owner)?;
    oauth(txn)?;
    let Position(at) = txn.next_position();
    txn.put(tables::ACCOUNT_DATA, (alice, "", "m.direct"), &AccountData { position: at, content: "{}".to_owned() })?;
    let key = AccountDataKey { room_id: String::new(), kind: "m.direct".to_owned() };
    txn.put(tables::ACCOUNT_DATA_LOG, (alice, at), &key)?;
    room(txn)?;
    keys(txn)?;
    peers(txn)
}

fn oauth(txn: &mut WriteTxn<'_>) -> Result<(), Error> {
    let uri = "https://client.example/".to_owned();
    let client = OAuthClient { name: None, uri, redirect_uris: vec![], native: false, registered_at_ms: 0 };
    txn.put(tables::OAUTH_CLIENTS, "client", &client)?;
    let code = OAuthCode {
        client_id: "client".to_owned(),
        device_id: owned_device_id!("A"),
        scope: String::new(),
        user_id: Some(alice()),
        stage: OAuthStage::Used,
        expires_at_ms: 0,
        redirect_uri: None,
        challenge: None,
        user_code: None,
    };
    txn.put(tables::OAUTH_CODES, TOKEN, &code)?;
    txn.put(tables::OAUTH_BROWSERS, TOKEN, &OAuthBrowser { user_id: alice(), expires_at_ms: 0 })
}

fn room(txn: &mut WriteTxn<'_>) -> Result<(), Error> {
    let (alice, room_id) = (user_id!("@alice:here"), room_id!("!room:here"));
    let row = Room { room_id: room_id.to_owned(), version: ruma::RoomVersionId::V11, overlay: false };
    txn.put(tables::ROOM_IDS, room_id, &ROOM)?;
    txn.put(tables::ROOMS, ROOM, &row)?;
    let alias = ruma::room_alias_id!("#pond:here");
    txn.put(tables::ALIASES, alias, &Alias { room_id: room_id.to_owned(), creator: alice.to_owned() })?;
    txn.put(tables::ROOM_ALIASES, (room_id, alias), &())?;
    txn.put(tables::PUBLISHED, room_id, &())?;
    let Position(at) = txn.next_position();
    let membership = ruma::events::room::member::MembershipState::Invite;
    txn.put(
        tables::MEMBERSHIPS,
        (alice, ROOM),
        &Membership { membership, event: None, position: at, forgotten: false },
    )?;
    txn.put(tables::STRIPPED, (alice, ROOM), &"[]".to_owned())?;
    let receipt = Receipt { event_id: owned_event_id!("$read"), ts_ms: 1, position: at };
    txn.put(tables::RECEIPTS, (ROOM, alice, "m.read", ""), &receipt)?;
    let key = ReceiptKey { user_id: alice.to_owned(), kind: "m.read".to_owned(), thread: String::new() };
    txn.put(tables::RECEIPT_LOG, (ROOM, at), &key)?;
    let (missing, parked) = (event_id!("$missing"), event_id!("$parked"));
    let missing_list = vec![missing.to_owned()];
    let row = ParkedPdu {
        json: "{}".to_owned(),
        origin: "there".try_into().unwrap(),
        received_at_ms: 0,
        missing: missing_list,
    };
    txn.put(tables::PARKED, (room_id, parked), &row)?;
    txn.put(tables::PARKED_ON, (missing, parked), &room_id.to_owned())?;
    txn.put(tables::STATE_KEYS, ("m.room.topic", ""), &StateKeyShort(1))?;
    let name = StateKeyName { kind: "m.room.topic".to_owned(), state_key: String::new() };
    txn.put(tables::STATE_KEY_NAMES, StateKeyShort(1), &name)?;
    txn.put(tables::STATE_GROUPS, StateGroup(1), &StateGroupRow { parent: None, depth: 0, changes: vec![] })?;
    let child = StateGroupRow { parent: Some(StateGroup(1)), depth: 1, changes: vec![(StateKeyShort(1), None)] };
    txn.put(tables::STATE_GROUPS, StateGroup(2), &child)?;
    let media = Media { creator: Some(alice.to_owned()), created_at_ms: 0, content: None, quarantined: false };
    txn.put(tables::MEDIA, (server_name!("here"), "pic"), &media)?;
    txn.put(tables::MEDIA_PENDING, (alice, "pic"), &5)
}

fn keys(txn: &mut WriteTxn<'_>) -> Result<(), Error> {
    let (alice, device) = (user_id!("@alice:here"), device_id!("A"));
    txn.put(tables::DEVICE_KEYS, (alice, device), &"{}".to_owned())?;
    let Position(at) = txn.next_position();
    let key = OneTimeKeyRow { id: "alg:1".to_owned(), json: "{}".to_owned() };
    txn.put(tables::ONE_TIME_KEYS, (alice, device, "alg", at), &key)?;
    txn.put(tables::ONE_TIME_KEY_IDS, (alice, device, "alg:1"), &at)?;
    let one_time = [("alg".to_owned(), 1)].into();
    txn.put(tables::KEY_COUNTS, (alice, device), &KeyCounts { one_time, position: at, ..KeyCounts::default() })?;
    txn.put(tables::TO_DEVICE, (alice, device, at), &"{}".to_owned())?;
    txn.put(tables::DEVICE_LIST_LOG, at, &alice.to_owned())?;
    txn.put(tables::DEVICE_LIST_HEAD, alice, &at)?;
    let out = DeviceOut { user_id: alice.to_owned(), device_id: Some(device.to_owned()) };
    txn.put(tables::DEVICE_OUT_LOG, at, &out)?;
    txn.put(tables::DEVICE_OUT_HEAD, (alice, "A"), &at)?;
    let backup = Backup { algorithm: "a".to_owned(), auth_data: "{}".to_owned(), etag: 1, count: 1, deleted: false };
    txn.put(tables::BACKUPS, (alice, 1), &backup)?;
    txn.put(tables::BACKUP_KEYS, (alice, 1, room_id!("!room:here"), "session"), &"{}".to_owned())
}

fn peers(txn: &mut WriteTxn<'_>) -> Result<(), Error> {
    let there = server_name!("there");
    txn.put(tables::TO_DEVICE_SEEN, (there, "m1"), &0)?;
    txn.put(tables::TO_DEVICE_SEEN_LOG, (there, 0), &"m1".to_owned())?;
    let Position(at) = txn.next_position();
    txn.put(tables::OUTBOX, (there, at), &OutboxItem::Edu("{}".to_owned()))?;
    let pdu = StagedPdu { origin: there.to_owned(), via: vec![], json: "{}".to_owned() };
    txn.put(tables::INBOX, at, &pdu)?;
    txn.put(tables::INBOX_WAITING, there, &1)
}

/// The findings in a good database with one row damaged.
fn findings(mut damage: impl FnMut(&mut WriteTxn<'_>) -> Result<(), Error> + Send + 'static) -> Vec<String> {
    let store = Store::in_memory(inline()).unwrap();
    write(&store, good).unwrap();
    write(&store, move |txn| damage(txn)).unwrap();
    check(store.snapshot().unwrap().view()).unwrap().findings
}

/// Damages one row in each way, and expects a finding that says so.
macro_rules! damages {
    ($($name:ident: $txn:ident => $damage:expr, $finding:literal;)*) => {$(
        #[test]
        fn $name() {
            let found = findings(|$txn| { $damage?; Ok(()) });
            assert!(found.iter().any(|finding| finding.contains($finding)), "{found:?}");
        }
    )*};
}

#[test]
fn a_good_database_has_no_findings_and_its_rows_are_counted() {
    let store = Store::in_memory(inline()).unwrap();
    let empty = check(store.snapshot().unwrap().view()).unwrap();
    assert!(empty.findings.is_empty(), "{:?}", empty.findings);
    write(&store, good).unwrap();
    let report = check(store.snapshot().unwrap().view()).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    assert!(report.rows > 30, "{} rows", report.rows);
}

fn alice() -> ruma::OwnedUserId {
    owned_user_id!("@alice:here")
}

damages! {
    an_account_is_gone: txn => txn.remove(tables::ACCOUNTS, alice()), "device A belongs to no account";
    a_device_is_gone: txn => txn.remove(tables::DEVICES, (alice(), owned_device_id!("A"))), "a token is of device A, which is not there";
    a_device_is_gone_that_has_keys: txn => txn.remove(tables::DEVICES, (alice(), owned_device_id!("A"))), "keys are of device A";
    a_device_is_gone_that_has_messages: txn => txn.remove(tables::DEVICES, (alice(), owned_device_id!("A"))), "is for device A";
    a_token_is_gone: txn => txn.remove(tables::TOKENS, TOKEN), "the token of device A is not there";
    a_token_is_left_over: txn => {
        let owner = TokenOwner { user_id: alice(), device_id: owned_device_id!("A"), expires_at_ms: None };
        txn.put(tables::TOKENS, [8; 32], &owner)
    }, "cannot be revoked";
    a_browser_is_of_no_account: txn => txn.remove(tables::ACCOUNTS, alice()), "a browser is signed in to no account";
    a_client_is_gone: txn => txn.remove_all(tables::OAUTH_CLIENTS, ()), "a code is for client client, which is not registered";
    a_refresh_token_is_gone: txn => txn.remove(tables::REFRESH_TOKENS, REFRESH), "the token of device A is not there";
    a_refresh_token_is_left_over: txn => {
        let owner = TokenOwner { user_id: alice(), device_id: owned_device_id!("A"), expires_at_ms: None };
        txn.put(tables::REFRESH_TOKENS, [8; 32], &owner)
    }, "cannot be revoked";
    account_data_is_gone: txn => txn.remove(tables::ACCOUNT_DATA, (alice(), "", "m.direct")), "names m.direct, which is not of that position";
    account_data_is_not_logged: txn => txn.remove_all(tables::ACCOUNT_DATA_LOG, ()), "account data m.direct";
    a_room_is_gone: txn => txn.remove(tables::ROOMS, ROOM), "room 1 is numbered and not stored";
    a_room_has_no_number: txn => txn.remove(tables::ROOM_IDS, owned_room_id!("!room:here")), "room 1 has another number";
    an_alias_is_not_listed: txn => txn.remove_all(tables::ROOM_ALIASES, ()), "alias #pond:here is not in its room's list";
    an_alias_is_gone: txn => txn.remove_all(tables::ALIASES, ()), "#pond:here is in the list of a room";
    a_published_room_is_not_known: txn => txn.put(tables::PUBLISHED, owned_room_id!("!other:here"), &()), "!other:here is published";
    a_membership_is_gone: txn => txn.remove_all(tables::MEMBERSHIPS, ()), "a user is shown room 1";
    a_membership_is_of_no_event: txn => {
        let membership = ruma::events::room::member::MembershipState::Join;
        let row = Membership { membership, event: Some(EventShort(99)), position: 1, forgotten: false };
        txn.put(tables::MEMBERSHIPS, (alice(), ROOM), &row)
    }, "is of event 99, which is not there";
    a_receipt_is_gone: txn => txn.remove_all(tables::RECEIPTS, ()), "names no receipt";
    a_receipt_is_not_logged: txn => txn.remove_all(tables::RECEIPT_LOG, ()), "a receipt m.read of room 1";
    nobody_wakes_a_parked_pdu: txn => txn.remove_all(tables::PARKED_ON, ()), "nobody wakes $parked when $missing comes";
    a_parked_pdu_is_gone: txn => txn.remove_all(tables::PARKED, ()), "$parked is noted to wait for $missing";
    a_state_key_has_no_way_back: txn => txn.remove_all(tables::STATE_KEY_NAMES, ()), "state key 1 of m.room.topic has no way back";
    a_state_group_has_an_unknown_key: txn => txn.remove_all(tables::STATE_KEY_NAMES, ()), "state group 2 has an unknown key 1";
    a_state_group_hangs_from_nothing: txn => txn.remove(tables::STATE_GROUPS, StateGroup(1)), "state group 2 hangs from a group that is not there";
    a_state_group_has_an_unknown_event: txn => {
        let changes = vec![(StateKeyShort(1), Some(EventShort(99)))];
        txn.put(tables::STATE_GROUPS, StateGroup(1), &StateGroupRow { parent: None, depth: 0, changes })
    }, "state group 1 has an unknown event 99";
    an_upload_is_waited_for_that_came: txn => txn.remove_all(tables::MEDIA, ()), "media pic is noted to wait";
    a_one_time_key_is_gone: txn => txn.remove_all(tables::ONE_TIME_KEYS, ()), "0 one-time keys, but 1 in the index";
    a_one_time_key_is_not_in_the_index: txn => txn.remove_all(tables::ONE_TIME_KEY_IDS, ()), "one-time key alg:1 of A is not in the index";
    one_time_keys_are_not_counted: txn => txn.remove_all(tables::KEY_COUNTS, ()), "one-time keys that nobody counts";
    a_device_list_head_is_gone: txn => txn.remove_all(tables::DEVICE_LIST_HEAD, ()), "is not its user's newest";
    a_device_list_log_is_gone: txn => txn.remove_all(tables::DEVICE_LIST_LOG, ()), "is of another user";
    a_device_change_head_is_gone: txn => txn.remove_all(tables::DEVICE_OUT_HEAD, ()), "is not the newest";
    a_device_change_is_gone: txn => txn.remove_all(tables::DEVICE_OUT_LOG, ()), "is of another device";
    a_backup_has_lost_a_session: txn => txn.remove_all(tables::BACKUP_KEYS, ()), "backup 1 holds 0 sessions, counted 1";
    a_backup_is_gone: txn => txn.remove_all(tables::BACKUPS, ()), "1 key backups have sessions but no version";
    a_message_of_a_peer_would_be_taken_again: txn => txn.remove_all(tables::TO_DEVICE_SEEN, ()), "would be taken again";
    a_message_of_a_peer_would_never_be_forgotten: txn => txn.remove_all(tables::TO_DEVICE_SEEN_LOG, ()), "is not in the log of messages";
    an_event_is_owed_that_is_not_there: txn => {
        txn.put(tables::OUTBOX, (server_name!("there"), 1), &OutboxItem::Pdu(EventShort(99)))
    }, "an event that is not there";
    something_is_owed_from_the_future: txn => {
        txn.put(tables::OUTBOX, (server_name!("there"), 999), &OutboxItem::Edu("{}".to_owned()))
    }, "the outbox owes there at 999";
    a_pdu_is_staged_in_the_future: txn => {
        let row = StagedPdu { origin: "there".try_into().unwrap(), via: vec![], json: "{}".to_owned() };
        txn.put(tables::INBOX, 999, &row)
    }, "a PDU is staged at 999";
    a_key_document_proves_nothing: txn => {
        txn.put(tables::KEY_DOCUMENTS, server_name!("there"), &b"{}".to_vec())
    }, "the key document of there does not prove itself";
    the_search_index_names_nothing: txn => {
        let posting = Posting { event: EventShort(9), ts_ms: 0, fields: 1, times: 1 };
        txn.put(tables::SEARCH_WORDS, ("word", ROOM, EventShort(9)), &Postings(vec![posting]))
    }, "the search index of room 1 names event 9";
    a_block_of_the_search_index_is_empty: txn => {
        txn.put(tables::SEARCH_WORDS, ("word", ROOM, EventShort(9)), &Postings::default())
    }, "is empty or out of order";
    an_event_id_is_numbered_in_vain: txn => txn.put(tables::EVENT_IDS, event_id!("$gone"), &EventShort(9)), "$gone is numbered 9 and not stored there";
    an_extremity_points_to_nothing: txn => txn.put(tables::EXTREMITIES, (ROOM, EventShort(9)), &()), "an extremity of room 1 points to nothing";
    a_room_has_a_state_and_no_extremity: txn => txn.put(tables::ROOM_HEADS, ROOM, &RoomHead { group: StateGroup(1), bump: None }), "has a current state or extremities, but not both";
    a_place_in_the_timeline_is_empty: txn => txn.put(tables::TIMELINE, (ROOM, 1), &EventShort(9)), "names event 9 at 1";
    the_log_of_the_state_names_nothing: txn => {
        let change = StateChange { event: Some(EventShort(9)), replaces: None };
        txn.put(tables::ROOM_STATE_LOG, (ROOM, 1, StateKeyShort(1)), &change)
    }, "room 1 changed at 1 by event 9";
    a_successor_is_not_there: txn => {
        txn.put(tables::SUCCESSORS, (ROOM, event_id!("$a"), EventShort(9)), &())
    }, "$a is followed in room 1 by event 9";
    an_early_redaction_is_not_there: txn => {
        txn.put(tables::EARLY_REDACTIONS, (ROOM, event_id!("$a")), &EventShort(9))
    }, "$a is to be redacted in room 1 by event 9";
    a_relation_is_of_nothing: txn => {
        let (kind, rel_type) = ("m.reaction".to_owned(), "m.annotation".to_owned());
        let row = Relation { rel_type, kind, event: EventShort(9), sender: alice(), key: None };
        txn.put(tables::RELATIONS, (event_id!("$a"), 1), &row)
    }, "a relation to $a is of an event that is not there";
}

#[test]
fn a_row_that_does_not_decode_is_a_finding_with_its_table() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    write(&Store::open(&path, inline()).unwrap(), good).unwrap();
    let db = redb::Database::open(&path).unwrap();
    let txn = db.begin_write().unwrap();
    let rooms = redb::TableDefinition::<&[u8], &[u8]>::new("ROOMS");
    txn.open_table(rooms).unwrap().insert(9_u64.to_be_bytes().as_slice(), b"no room".as_slice()).unwrap();
    txn.commit().unwrap();
    drop(db);
    let store = Store::open(&path, inline()).unwrap();
    let found = check(store.snapshot().unwrap().view()).unwrap().findings;
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("ROOMS: "), "{found:?}");
}
