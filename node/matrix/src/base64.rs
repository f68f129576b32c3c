//! Writing bytes as text without padding, two characters at a time: rows are full of hashes, and every reader writes them out.

/// Whose characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alphabet {
    /// Base64 with `+` and `/`: hashes and signatures.
    Standard,
    /// Base64 with `-` and `_`: event and room ids.
    Url,
    /// base32 in lower case: the names of nodes.
    Name,
}

/// Appends the text of `bytes`. For [`Alphabet::Name`] their number must be divisible by five, as that of a name is.
pub fn write(alphabet: Alphabet, bytes: &[u8], out: &mut Vec<u8>) {
    match alphabet {
        Alphabet::Standard => write_64(&STANDARD, bytes, out),
        Alphabet::Url => write_64(&URL, bytes, out),
        Alphabet::Name => write_32(bytes, out),
    }
}

/// All pairs of characters of an alphabet.
type Pairs<const N: usize> = [[u8; 2]; N];

static STANDARD: Pairs<4096> = pairs(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");
static URL: Pairs<4096> = pairs(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_");
static NAME: Pairs<1024> = pairs(b"abcdefghijklmnopqrstuvwxyz234567");

const fn pairs<const N: usize>(symbols: &[u8]) -> Pairs<N> {
    let (mut pairs, mut n) = ([[0; 2]; N], 0);
    while n < N {
        pairs[n] = [symbols[n / symbols.len()], symbols[n % symbols.len()]];
        n += 1;
    }
    pairs
}

fn write_64(pairs: &Pairs<4096>, bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + (bytes.len() * 4).div_ceil(3), 0);
    let (triples, rest) = bytes.as_chunks::<3>();
    let (places, last) = out[start..].as_chunks_mut::<4>();
    for (place, triple) in places.iter_mut().zip(triples) {
        let bits = u32::from_be_bytes([0, triple[0], triple[1], triple[2]]) as usize;
        let ([a, b], [c, d]) = (pairs[bits >> 12], pairs[bits & 0xFFF]);
        *place = [a, b, c, d];
    }
    match (rest, last) {
        ([one], [a, b]) => [*a, *b] = pairs[usize::from(*one) << 4],
        ([one, two], [a, b, c]) => {
            let bits = usize::from(*one) << 16 | usize::from(*two) << 8;
            [*a, *b] = pairs[bits >> 12];
            *c = pairs[bits & 0xFFF][0];
        }
        _ => {}
    }
}

fn write_32(bytes: &[u8], out: &mut Vec<u8>) {
    for five in bytes.as_chunks::<5>().0 {
        let bits = u64::from_be_bytes([0, 0, 0, five[0], five[1], five[2], five[3], five[4]]) as usize;
        for shift in [30, 20, 10, 0] {
            out.extend_from_slice(&NAME[bits >> shift & 0x3FF]);
        }
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD};

    use super::*;

    fn text(alphabet: Alphabet, bytes: &[u8]) -> String {
        let mut out = b"before".to_vec();
        write(alphabet, bytes, &mut out);
        String::from_utf8(out.split_off(6)).unwrap()
    }

    #[test]
    fn every_length_is_written_as_others_write_it() {
        let bytes: Vec<u8> = (0..=255_u8).map(|n| n.wrapping_mul(167) ^ 0x5A).collect();
        for len in 0..bytes.len() {
            assert_eq!(text(Alphabet::Standard, &bytes[..len]), BASE64_NOPAD.encode(&bytes[..len]));
            assert_eq!(text(Alphabet::Url, &bytes[..len]), BASE64URL_NOPAD.encode(&bytes[..len]));
        }
        let expected = data_encoding::BASE32_NOPAD.encode(&bytes[..35]).to_ascii_lowercase();
        assert_eq!(text(Alphabet::Name, &bytes[..35]), expected);
    }
}
