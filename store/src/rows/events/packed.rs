//! The JSON of an event, packed for its row: half of it or less. Any text comes back as it was.
//!
//! Most of an event is hashes, signatures and node names, which the JSON writes out in Base64 and base32: they are taken out
//! of the text as bytes, each replaced by a control character, which JSON text does not hold. What remains is mostly keys that
//! every event has: LZ4 with a dictionary of them makes it short. One row needs no other row to be read.
//!
//! `length of the text | length of the bytes | bytes | LZ4 of the text`, numbers as LEB128.

use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD, Encoding, Specification};
use millpond_matrix::{
    base64::{self, Alphabet},
    number,
};

mod dictionary;

use self::dictionary::DICTIONARY;

/// Packs a text; none if it would not be shorter.
pub(super) fn pack(json: &str) -> Option<Vec<u8>> {
    if first_code(json.as_bytes()).is_some() {
        return None;
    }
    let mut split = Split { text: Vec::with_capacity(json.len()), ..Split::default() };
    split.all(json.as_bytes());
    let text = lz4_flex::block::compress_with_dict(&split.text, DICTIONARY);
    let mut out = Vec::with_capacity(text.len() + split.bytes.len() + 6);
    number::write(&mut out, split.text.len() as u64);
    number::write(&mut out, split.bytes.len() as u64);
    out.extend_from_slice(&split.bytes);
    out.extend_from_slice(&text);
    (out.len() < json.len()).then_some(out)
}

/// The text that was packed.
pub(super) fn unpack(mut packed: &[u8]) -> Result<String, String> {
    let mut length = || number::read(&mut packed).and_then(|n| usize::try_from(n).ok()).filter(|n| *n <= TEXT_MAX);
    let (text_len, bytes_len) = length().zip(length()).ok_or("packed event without its lengths")?;
    let (mut bytes, text) = packed.split_at_checked(bytes_len).ok_or("packed event is cut short")?;
    let text = lz4_flex::block::decompress_with_dict(text, text_len, DICTIONARY).map_err(|e| e.to_string())?;
    let mut out = Vec::with_capacity(text.len() + bytes.len() * 2);
    let mut words: Vec<std::ops::Range<usize>> = Vec::with_capacity(8);
    let mut from = 0;
    while let Some(place) = first_code(&text[from..]) {
        let code = text[from + place];
        out.extend_from_slice(&text[from..from + place]);
        from += place + 1;
        let start = out.len();
        if code == AGAIN {
            let nth = usize::from(take(&mut bytes, 1)?[0]);
            out.extend_from_within(words.get(nth).ok_or("packed event repeats what it has not")?.clone());
            continue;
        }
        let (alphabet, len) = match code {
            HASH => (usual(out.last().copied()), 32),
            OTHER_HASH => (other(usual(out.last().copied())), 32),
            SIGNATURE => (Alphabet::Standard, 64),
            NAME => (Alphabet::Name, 35),
            LONG | LONG_URL => {
                let triples = number::read(&mut bytes).and_then(|n| usize::try_from(n).ok()).filter(|n| *n <= TEXT_MAX);
                let len = triples.ok_or("packed event with a long part of no length")? * 3;
                (if code == LONG { Alphabet::Standard } else { Alphabet::Url }, len)
            }
            _ => return Err(format!("packed event with an unknown part {code}")),
        };
        base64::write(alphabet, take(&mut bytes, len)?, &mut out);
        words.push(start..out.len());
    }
    out.extend_from_slice(&text[from..]);
    String::from_utf8(out).map_err(|_| "packed event is not UTF-8".to_owned())
}

/// Where the first of our control characters stands; eight bytes at a time, for there are few.
fn first_code(text: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let (chunks, rest) = text.as_chunks::<8>();
    for (n, chunk) in chunks.iter().enumerate() {
        let bytes = u64::from_le_bytes(*chunk);
        // The highest bit of each byte that is below CODES; borrows spoil only bytes above the first such one.
        let found = bytes.wrapping_sub(ONES * u64::from(CODES)) & !bytes & (ONES << 7);
        if found != 0 {
            return Some(n * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    rest.iter().position(|byte| *byte < CODES).map(|at| chunks.len() * 8 + at)
}

/// A text with its words taken out.
#[derive(Default)]
struct Split {
    text: Vec<u8>,
    bytes: Vec<u8>,
    /// The words taken out so far: where they stood in the JSON.
    words: Vec<std::ops::Range<usize>>,
}

impl Split {
    fn all(&mut self, json: &[u8]) {
        let (mut at, mut copied) = (0, 0);
        while at < json.len() {
            if !is_word(json[at]) {
                at += 1;
                continue;
            }
            let start = at;
            while at < json.len() && is_word(json[at]) {
                at += 1;
            }
            if at - start < SHORTEST {
                continue;
            }
            self.text.extend_from_slice(&json[copied..start]);
            let before = start.checked_sub(1).map(|before| json[before]);
            copied = start + self.word(json, start..at, before);
        }
        self.text.extend_from_slice(&json[copied..]);
    }

    /// Takes a word out, or what of it can be; says how many of its characters.
    fn word(&mut self, json: &[u8], place: std::ops::Range<usize>, before: Option<u8>) -> usize {
        let word = &json[place.clone()];
        let seen = self.words.iter().take(usize::from(u8::MAX)).position(|earlier| json[earlier.clone()] == *word);
        if let Some(nth) = seen {
            self.text.push(AGAIN);
            self.bytes.push(nth as u8);
            return word.len();
        }
        let usual = usual(before);
        let whole = match word.len() {
            43 => [(HASH, usual), (OTHER_HASH, other(usual))].into_iter().find(|way| self.take(word, way.1)),
            56 => Some((NAME, Alphabet::Name)).filter(|way| self.take(word, way.1)),
            86 => Some((SIGNATURE, Alphabet::Standard)).filter(|way| self.take(word, way.1)),
            _ => None,
        };
        if let Some((code, _)) = whole {
            self.text.push(code);
            self.words.push(place);
            return word.len();
        }
        let len = word.len() / 4 * 4;
        let ways = [(LONG, Alphabet::Standard), (LONG_URL, Alphabet::Url)];
        let before = self.bytes.len();
        number::write(&mut self.bytes, (len / 4) as u64);
        let Some((code, _)) = ways.into_iter().find(|way| self.take(&word[..len], way.1)) else {
            self.bytes.truncate(before);
            return 0;
        };
        self.text.push(code);
        self.words.push(place.start..place.start + len);
        len
    }

    /// Appends the bytes that a word writes out, if it is one of the alphabet and would come back as it is.
    fn take(&mut self, word: &[u8], alphabet: Alphabet) -> bool {
        let encoding = encoding(alphabet);
        let Ok(len) = encoding.decode_len(word.len()) else { return false };
        let before = self.bytes.len();
        self.bytes.resize(before + len, 0);
        let taken = encoding.decode_mut(word, &mut self.bytes[before..]) == Ok(len);
        if !taken {
            self.bytes.truncate(before);
        }
        taken
    }
}

fn encoding(alphabet: Alphabet) -> &'static Encoding {
    match alphabet {
        Alphabet::Standard => &STANDARD,
        Alphabet::Url => &URL,
        Alphabet::Name => &NAMES,
    }
}

/// In ids a hash is written in the URL-safe alphabet, elsewhere mostly in the standard one.
fn usual(before: Option<u8>) -> Alphabet {
    if matches!(before, Some(b'$' | b'!')) { Alphabet::Url } else { Alphabet::Standard }
}

fn other(alphabet: Alphabet) -> Alphabet {
    if alphabet == Alphabet::Url { Alphabet::Standard } else { Alphabet::Url }
}

static STANDARD: Encoding = BASE64_NOPAD;
static URL: Encoding = BASE64URL_NOPAD;
/// The names of nodes: v3 onion names.
static NAMES: std::sync::LazyLock<Encoding> = std::sync::LazyLock::new(|| {
    let mut base32 = Specification::new();
    base32.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    base32.encoding().expect("32 symbols make an encoding")
});

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_')
}

fn take<'a>(bytes: &mut &'a [u8], n: usize) -> Result<&'a [u8], String> {
    let (head, tail) = bytes.split_at_checked(n).ok_or("packed event is cut short")?;
    *bytes = tail;
    Ok(head)
}

/// What stands in the text for a word that was taken out. The dictionary holds these too.
const HASH: u8 = 1;
const OTHER_HASH: u8 = 2;
const SIGNATURE: u8 = 3;
const NAME: u8 = 4;
const LONG: u8 = 5;
const LONG_URL: u8 = 6;
const AGAIN: u8 = 7;
/// They are all below this.
const CODES: u8 = 8;

/// Shorter words are mostly words of a language.
const SHORTEST: usize = 32;
/// A PDU has 65,535 bytes at most.
const TEXT_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests;
