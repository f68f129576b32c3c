use proptest::prelude::*;

use super::*;

fn message(body: &str) -> String {
    let id = |n: u8| BASE64URL_NOPAD.encode(&[n.wrapping_mul(37); 32]);
    let name = "p".repeat(50) + "aaaaad";
    format!(
        concat!(
            r#"{{"auth_events":["${}","${}","${}"],"content":{{"body":"{}","msgtype":"m.text"}},"depth":1234,"#,
            r#""hashes":{{"sha256":"{}"}},"origin_server_ts":1764208000000,"prev_events":["${}"],"room_id":"!{}","#,
            r#""sender":"@alice:{}.onion","signatures":{{"{}.onion":{{"ed25519:1":"{}"}}}},"type":"m.room.message"}}"#
        ),
        id(1),
        id(2),
        id(3),
        body,
        BASE64_NOPAD.encode(&[0xFB; 32]),
        id(4),
        id(5),
        name,
        name,
        BASE64_NOPAD.encode(&[0xBE; 64])
    )
}

/// Packs and unpacks; the size of the packed form.
fn there_and_back(json: &str) -> usize {
    match pack(json) {
        Some(packed) => {
            assert_eq!(unpack(&packed).unwrap(), json);
            packed.len()
        }
        None => json.len(),
    }
}

#[test]
fn a_message_takes_its_hashes_and_its_body_and_little_more() {
    let json = message("");
    // Five ids, a content hash, a signature, a node's name.
    let least = 5 * 32 + 32 + 64 + 35;
    let packed = there_and_back(&json);
    assert!(packed < least + 75, "{packed} bytes of {}, {least} of them hashes", json.len());
    let encrypted = BASE64_NOPAD.encode(&(0..=254).map(|n: u8| n.wrapping_mul(91)).collect::<Vec<_>>());
    let json = message(&encrypted);
    assert!(there_and_back(&json) < packed + 255 + 16, "what is encrypted costs its bytes, not their Base64");
}

#[test]
fn words_that_would_come_back_otherwise_stay_text() {
    for word in [
        "A".repeat(42) + "B",  // 43 characters with bits after the last byte
        "p".repeat(55) + "1",  // 56 characters, not base32
        "A".repeat(85) + "B",  // 86 with bits left over
        "+-".repeat(30),       // both alphabets
        "-_".repeat(33) + "x", // long, URL-safe, with a rest
        "/".repeat(43),        // a hash in the other alphabet
        "_".repeat(43),
        "\u{E9}".repeat(40),
    ] {
        there_and_back(&word);
        there_and_back(&format!("${word}"));
        there_and_back(&format!("{{\"a\":\"{word}\",\"b\":\"!{word}\",\"c\":[\"{word}\",\"x{word}\"]}}"));
    }
    let words: Vec<_> = (0..600_u32).map(|n| BASE64_NOPAD.encode(&n.to_be_bytes().repeat(8))).collect();
    there_and_back(&[words.join(" "), words.join(" ")].concat());
}

#[test]
fn a_text_with_our_control_characters_is_not_packed() {
    assert_eq!(pack(&message("\u{1}")), None);
    assert_eq!(pack("short"), None);
}

proptest! {
    #[test]
    fn every_text_comes_back(text in any::<String>(), words in prop::collection::vec("[a-zA-Z0-9+/_-]{30,90}", 0..6)) {
        there_and_back(&text);
        there_and_back(&message(&text.replace(char::is_control, "")));
        there_and_back(&words.join("\",\""));
        there_and_back(&format!("{}{text}{}", words.concat(), words.join("$")));
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in any::<prop::sample::Index>()) {
        let _ = unpack(&bytes);
        let mut packed = pack(&message("a body")).unwrap();
        let at = cut.index(packed.len());
        packed[at] ^= 0x15;
        let _ = unpack(&packed);
        packed.truncate(at);
        let _ = unpack(&packed);
    }
}
