//! zstd with a dictionary that ships with the code: Matrix JSON of our own writing, as raw content. What every event says anew is
//! in it, so that even the first message in an envelope is short.

use std::sync::LazyLock;

use zstd::{
    bulk::{Compressor, Decompressor},
    dict::EncoderDictionary,
};

/// `None`: the library refused, and the bytes are to travel as they are.
pub(crate) fn compress(plain: &[u8]) -> Option<Vec<u8>> {
    Compressor::with_prepared_dictionary(&PREPARED).ok()?.compress(plain).ok()
}

/// `None`: not zstd under this dictionary, or more than `cap` bytes would come out.
pub(crate) fn decompress(packed: &[u8], cap: usize) -> Option<Vec<u8>> {
    let mut plain = Decompressor::with_dictionary(DICTIONARY).ok()?.decompress(packed, cap).ok()?;
    plain.shrink_to_fit();
    Some(plain)
}

/// Digested once: doing it again for each message took longer than the message itself.
static PREPARED: LazyLock<EncoderDictionary<'static>> = LazyLock::new(|| EncoderDictionary::copy(DICTIONARY, LEVEL));
/// Part of the protocol: a change of one byte is a new method in `frame`.
const DICTIONARY: &[u8] = include_bytes!("../dictionary/matrix-1.txt");
/// Of zstd: beyond it the time grows much faster than what is saved on some kilobytes.
const LEVEL: i32 = 9;
