//! What events have in common, for LZ4: keys and values of the specification's events in canonical order, with the control
//! characters of [`super`] where words were taken out. Changing a byte of it makes stored rows unreadable: that is a new layout.

/// The dictionary; what is most frequent stands last.
pub(super) const DICTIONARY: &[u8] = concat!(
    // State of a room.
    "\"content\":{\"alias\":\"#\",\"alt_aliases\":[\"#\"]},\"type\":\"m.room.canonical_alias\"}",
    "\"content\":{\"algorithm\":\"m.megolm.v1.aes-sha2\",\"rotation_period_ms\":604800000,\"rotation_period_msgs\":100},",
    "\"state_key\":\"\",\"type\":\"m.room.encryption\"}",
    "\"content\":{\"allow\":[{\"room_id\":\"!\u{1}\",\"type\":\"m.room_membership\"}],\"join_rule\":\"restricted\"},",
    "\"content\":{\"join_rule\":\"public\"},\"content\":{\"join_rule\":\"knock\"},",
    "\"content\":{\"join_rule\":\"invite\"},\"state_key\":\"\",\"type\":\"m.room.join_rules\"}",
    "\"content\":{\"guest_access\":\"forbidden\"},\"content\":{\"guest_access\":\"can_join\"},",
    "\"state_key\":\"\",\"type\":\"m.room.guest_access\"}",
    "\"content\":{\"history_visibility\":\"joined\"},\"history_visibility\":\"invited\",\"world_readable\",",
    "\"content\":{\"history_visibility\":\"shared\"},\"state_key\":\"\",\"type\":\"m.room.history_visibility\"}",
    "\"content\":{\"pinned\":[\"$\u{1}\"]},\"type\":\"m.room.pinned_events\"}\"content\":{\"url\":\"mxc://\"},\"type\":\"m.room.avatar\"}",
    "\"content\":{\"topic\":\"\",\"m.topic\":{\"m.text\":[{\"body\":\"\"}]}},\"state_key\":\"\",\"type\":\"m.room.topic\"}",
    "\"content\":{\"name\":\"\"},\"state_key\":\"\",\"type\":\"m.room.name\"}",
    "\"content\":{\"m.federate\":true,\"creator\":\"@\",\"org.millpond.federation\":\"overlay\",\"predecessor\":{\"room_id\":\"!\u{1}\"},",
    "\"room_version\":\"12\"},\"state_key\":\"\",\"type\":\"m.room.create\"}",
    "\"type\":\"m.space\"\"content\":{\"via\":[\"\u{4}.onion\"],\"order\":\"\",\"suggested\":false},\"type\":\"m.space.child\"}\"m.space.parent\"",
    "\"content\":{\"ban\":50,\"events\":{\"im.vector.modular.widgets\":50,\"m.room.avatar\":50,\"m.room.canonical_alias\":50,",
    "\"m.room.encryption\":100,\"m.room.history_visibility\":100,\"m.room.name\":50,\"m.room.power_levels\":100,",
    "\"m.room.server_acl\":100,\"m.room.tombstone\":150,\"m.room.topic\":50},\"events_default\":0,\"historical\":100,",
    "\"invite\":0,\"kick\":50,\"notifications\":{\"room\":50},\"redact\":50,\"state_default\":50,\"users\":{\"@\":100},",
    "\"users_default\":0},\"state_key\":\"\",\"type\":\"m.room.power_levels\"}",
    "\"content\":{\"reason\":\"\",\"join_authorised_via_users_server\":\"@\",\"is_direct\":true,",
    "\"avatar_url\":null,\"avatar_url\":\"mxc://\u{4}.onion/\",\"displayname\":\"\",\"membership\":\"leave\"},\"membership\":\"ban\"},",
    "\"membership\":\"knock\"},\"membership\":\"invite\"},\"membership\":\"join\"},",
    "\"state_key\":\"@\u{7}.onion\",\"type\":\"m.room.member\"}",
    // Messages.
    "\"content\":{\"redacts\":\"$\u{1}\",\"reason\":\"\"},\"type\":\"m.room.redaction\"}",
    "\"file\":{\"hashes\":{\"sha256\":\"\u{1}\"},\"iv\":\"AAAAAAAAAA\",\"key\":{\"alg\":\"A256CTR\",\"ext\":true,\"k\":\"\u{2}\",",
    "\"key_ops\":[\"encrypt\",\"decrypt\"],\"kty\":\"oct\"},\"url\":\"mxc://\u{4}.onion/\",\"v\":\"v2\"},\"filename\":\"\",",
    "\"info\":{\"duration\":0,\"h\":600,\"mimetype\":\"image/jpeg\",\"size\":,\"thumbnail_info\":{\"h\":,\"mimetype\":\"image/png\",\"w\":},",
    "\"thumbnail_url\":\"mxc://\",\"w\":800,\"xyz.amorgan.blurhash\":\"\"},\"msgtype\":\"m.image\",\"m.file\",\"m.audio\",\"m.video\",\"m.location\",",
    "\"content\":{\"m.relates_to\":{\"event_id\":\"$\u{1}\",\"key\":\"\",\"rel_type\":\"m.annotation\"}},\"type\":\"m.reaction\"}",
    "\"content\":{\"body\":\" * \",\"format\":\"org.matrix.custom.html\",\"formatted_body\":\"<p></p>",
    "<strong></strong><em></em><code></code><br /><a href=\\\"https://matrix.to/#/@https://</a><mx-reply><blockquote></blockquote></mx-reply>\",",
    "\"m.mentions\":{\"room\":true,\"user_ids\":[\"@\u{7}.onion\"]},",
    "\"m.new_content\":{\"body\":\"\",\"m.mentions\":{},\"msgtype\":\"m.text\"},",
    "\"m.relates_to\":{\"event_id\":\"$\u{1}\",\"rel_type\":\"m.replace\"},\"rel_type\":\"m.reference\"},",
    "\"m.relates_to\":{\"event_id\":\"$\u{1}\",\"is_falling_back\":true,\"m.in_reply_to\":{\"event_id\":\"$\u{7}\"},\"rel_type\":\"m.thread\"},",
    "\"m.relates_to\":{\"m.in_reply_to\":{\"event_id\":\"$\u{1}\"}},\"msgtype\":\"m.notice\"},\"msgtype\":\"m.emote\"},",
    "\"content\":{\"algorithm\":\"m.megolm.v1.aes-sha2\",\"ciphertext\":\"\u{5}\",\"device_id\":\"\",\"sender_key\":\"\u{1}\",\"session_id\":\"\u{1}\"},",
    "\"type\":\"m.room.encrypted\"}",
    "\"content\":{\"body\":\"\",\"msgtype\":\"m.text\"},",
    // The frame of every event.
    "{\"auth_events\":[\"$\u{1}\",\"$\u{1}\",\"$\u{1}\",\"$\u{1}\"],\"content\":{\"body\":\"\",\"m.mentions\":{},\"msgtype\":\"m.text\"},\"depth\":1,",
    "\"hashes\":{\"sha256\":\"\u{1}\"},\"origin_server_ts\":17,\"prev_events\":[\"$\u{7}\"],\"prev_events\":[\"$\u{1}\"],\"room_id\":\"!\u{1}\",",
    "\"sender\":\"@\u{4}.onion\",\"signatures\":{\"\u{7}.onion\":{\"ed25519:1\":\"\u{3}\"}},\"state_key\":\"\",\"type\":\"m.room.message\"}",
)
.as_bytes();
