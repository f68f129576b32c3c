//! Words of a text: as Unicode divides it (UAX #29), in lower case, without the accents of Latin letters. Scripts without
//! spaces are divided by character, so that a search for several of them finds texts that have all.

use std::collections::BTreeMap;

use millpond_store::rows::EventRow;
use serde::Deserialize;
use unicode_normalization::UnicodeNormalization;
use unicode_segmentation::UnicodeSegmentation;

/// Changes when the same text gives other words: the index is then made anew.
pub(super) const RULES: u64 = 1;

/// `content.body`.
pub(super) const BODY: u8 = 1;
/// `content.name`.
pub(super) const NAME: u8 = 2;
/// `content.topic`.
pub(super) const TOPIC: u8 = 4;

/// Where in an event a word occurs, and how often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Occurrence {
    pub(super) fields: u8,
    pub(super) times: u8,
}

/// The words of one event.
pub(crate) type Words = BTreeMap<String, Occurrence>;

/// The words of a text.
pub(super) fn of_text(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    for word in text.unicode_words() {
        // Compatibility forms (full width, ligatures) are the letters they stand for; U+0300 to U+036F are the accents.
        let folded: String = word.nfkd().filter(|c| !('\u{300}'..='\u{36F}').contains(c)).collect();
        let folded: String = folded.to_lowercase().nfc().collect();
        let mut end = folded.len().min(WORD_MAX);
        while !folded.is_char_boundary(end) {
            end -= 1;
        }
        if end > 0 {
            words.push(folded[..end].to_owned());
        }
    }
    words
}

/// The words of an event; none if it is encrypted or says nothing.
pub(crate) fn of_event(row: &EventRow) -> Words {
    #[derive(Deserialize)]
    struct Content {
        #[serde(default, deserialize_with = "text")]
        body: String,
        #[serde(default, deserialize_with = "text")]
        name: String,
        #[serde(default, deserialize_with = "text")]
        topic: String,
    }
    let mut words = Words::new();
    let content = row.header.content.of(&row.json);
    // A search of bytes is cheaper than a parse, and most events that are no messages end here.
    if !["\"body\"", "\"name\"", "\"topic\""].iter().any(|key| content.contains(key)) {
        return words;
    }
    let Ok(Content { body, name, topic }) = serde_json::from_str(content) else { return words };
    for (field, text) in [(BODY, body), (NAME, name), (TOPIC, topic)] {
        for word in of_text(&text) {
            if words.len() == WORDS_MAX && !words.contains_key(&word) {
                continue;
            }
            let found = words.entry(word).or_default();
            found.fields |= field;
            found.times = (found.times + 1).min(31);
        }
    }
    words
}

/// A text, or nothing where another kind of value stands.
fn text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Any {
        Text(String),
        Other(serde::de::IgnoredAny),
    }
    Ok(match Any::deserialize(deserializer)? {
        Any::Text(text) => text,
        Any::Other(_) => String::new(),
    })
}

/// Bytes of a word at most; the rest of a longer one is not looked at.
const WORD_MAX: usize = 64;
/// Different words of one event at most: an event must not fill the index.
const WORDS_MAX: usize = 2_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_folded_and_divided_as_unicode_says() {
        let words = |text: &str| of_text(text).join("|");
        assert_eq!(words("Hello, World! can't 3.14"), "hello|world|can't|3.14");
        assert_eq!(words("Cafe\u{301} caf\u{e9} \u{ff21}\u{ff22} \u{fb01}n"), "cafe|cafe|ab|fin");
        assert_eq!(words("\u{6771}\u{4eac}"), "\u{6771}|\u{4eac}");
        assert_eq!(words("\u{41c}\u{418}\u{420} stra\u{df}e"), "\u{43c}\u{438}\u{440}|stra\u{df}e");
        assert_eq!(words("... !? \u{1f600}"), "");
        assert_eq!(of_text(&"\u{e4}\u{df}".repeat(100))[0].len(), 64);
    }
}
