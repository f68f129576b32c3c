//! What a picture says about its maker - place, time, camera, comments - taken out of JPEG, PNG and WebP files, segment by
//! segment: the pixels stay as they are. The orientation stays too, alone, or photos would lie on their side.

use image::metadata::Orientation;

/// Whether a file that begins so may have metadata that [`stripped`] knows.
pub(super) fn may_have(head: &[u8]) -> bool {
    head.starts_with(&[0xFF, 0xD8, 0xFF])
        || head.starts_with(PNG)
        || (head.starts_with(b"RIFF") && head.get(8..12) == Some(b"WEBP"))
}

/// The file without its metadata; none if it is no such file, or not a whole one.
pub(super) fn stripped(file: &[u8]) -> Option<Vec<u8>> {
    if file.starts_with(&[0xFF, 0xD8, 0xFF]) {
        jpeg(file)
    } else if file.starts_with(PNG) {
        png(file)
    } else if file.starts_with(b"RIFF") && file.get(8..12) == Some(b"WEBP") {
        webp(file)
    } else {
        None
    }
}

fn take<'a>(bytes: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(n)?;
    *bytes = rest;
    Some(head)
}

/// EXIF that says nothing but how the picture is turned; none for one that is not.
fn orientation(exif: &[u8]) -> Option<Vec<u8>> {
    let orientation = Orientation::from_exif_chunk(exif).filter(|found| *found != Orientation::NoTransforms)?;
    // TIFF, big-endian: one directory with one entry, tag 0x0112 of one short.
    let mut exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    exif.extend_from_slice(&[orientation.to_exif(), 0, 0, 0, 0, 0, 0]);
    Some(exif)
}

/// Keeps what decoding needs: JFIF, colour profile, Adobe's colour transform, tables, frames, scans. What stands behind the
/// end - previews, short films - goes.
fn jpeg(file: &[u8]) -> Option<Vec<u8>> {
    let mut rest = file;
    let mut out = take(&mut rest, 2)?.to_vec();
    loop {
        let &[0xFF, marker] = take(&mut rest, 2)? else { return None };
        match marker {
            // Any number of fill bytes may stand before a marker.
            0xFF => rest = file.get(file.len() - rest.len() - 1..)?,
            0xD9 => {
                out.extend_from_slice(&[0xFF, marker]);
                return Some(out);
            }
            _ => {
                let len = usize::from(u16::from_be_bytes(rest.get(..2)?.try_into().ok()?));
                let segment = take(&mut rest, len)?;
                let body = segment.get(2..)?;
                let exif = body.strip_prefix(EXIF).filter(|_| marker == 0xE1).and_then(orientation);
                if let Some(exif) = exif {
                    let len = u16::try_from(2 + EXIF.len() + exif.len()).ok()?;
                    out.extend_from_slice(&[0xFF, 0xE1]);
                    out.extend_from_slice(&len.to_be_bytes());
                    out.extend_from_slice(EXIF);
                    out.extend_from_slice(&exif);
                } else if is_needed(marker, body) {
                    out.extend_from_slice(&[0xFF, marker]);
                    out.extend_from_slice(segment);
                }
                if marker == 0xDA {
                    let len = scan_len(rest)?;
                    out.extend_from_slice(take(&mut rest, len)?);
                }
            }
        }
    }
}

fn is_needed(marker: u8, body: &[u8]) -> bool {
    match marker {
        0xE2 => body.starts_with(b"ICC_PROFILE\0"),
        0xE0 | 0xEE => true,
        // The other application segments, and comments.
        0xE1..=0xEF | 0xFE => false,
        _ => true,
    }
}

/// Bytes of the picture up to the next marker that is not part of them.
fn scan_len(scan: &[u8]) -> Option<usize> {
    scan.windows(2).position(|pair| pair[0] == 0xFF && !matches!(pair[1], 0 | 0xD0..=0xD7 | 0xFF))
}

fn png(file: &[u8]) -> Option<Vec<u8>> {
    let mut rest = file;
    let mut out = take(&mut rest, PNG.len())?.to_vec();
    loop {
        let start = rest;
        let len = usize::try_from(u32::from_be_bytes(take(&mut rest, 4)?.try_into().ok()?)).ok()?;
        let kind = take(&mut rest, 4)?;
        let body = take(&mut rest, len)?;
        take(&mut rest, 4)?;
        let chunk = &start[..start.len() - rest.len()];
        if kind == b"eXIf" {
            if let Some(exif) = orientation(body) {
                out.extend_from_slice(&u32::try_from(exif.len()).ok()?.to_be_bytes());
                let at = out.len();
                out.extend_from_slice(b"eXIf");
                out.extend_from_slice(&exif);
                let crc = crc32(&out[at..]);
                out.extend_from_slice(&crc.to_be_bytes());
            }
        } else if kind[0].is_ascii_uppercase() || PNG_KEPT.contains(&kind) {
            out.extend_from_slice(chunk);
        }
        if kind == b"IEND" {
            return Some(out);
        }
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 })
    };
    !bytes.iter().fold(!0, step)
}

fn webp(file: &[u8]) -> Option<Vec<u8>> {
    let mut rest = file;
    let mut out = take(&mut rest, 12)?.to_vec();
    let mut flags_at = None;
    let mut turned = false;
    while !rest.is_empty() {
        let kind = take(&mut rest, 4)?;
        let len = usize::try_from(u32::from_le_bytes(take(&mut rest, 4)?.try_into().ok()?)).ok()?;
        let body = take(&mut rest, len)?;
        // Chunks of an odd length have a byte of padding, which some writers leave out at the end.
        let _ = take(&mut rest, len % 2);
        let kept = match kind {
            b"EXIF" => match orientation(body.strip_prefix(EXIF).unwrap_or(body)) {
                Some(exif) => exif,
                None => continue,
            },
            kind if WEBP_KEPT.contains(&kind) => body.to_vec(),
            _ => continue,
        };
        turned |= kind == b"EXIF";
        if kind == b"VP8X" {
            flags_at = Some(out.len() + 8);
        }
        out.extend_from_slice(kind);
        out.extend_from_slice(&u32::try_from(kept.len()).ok()?.to_le_bytes());
        out.extend_from_slice(&kept);
        out.resize(out.len() + kept.len() % 2, 0);
    }
    if let Some(at) = flags_at {
        // Bit 3 says that there is EXIF, bit 2 that there is XMP.
        let flags = out.get_mut(at)?;
        *flags = *flags & !0x0C | u8::from(turned) << 3;
    }
    let len = u32::try_from(out.len() - 8).ok()?;
    out[4..8].copy_from_slice(&len.to_le_bytes());
    Some(out)
}

const EXIF: &[u8] = b"Exif\0\0";
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
/// Chunks beside the critical ones that change what is seen, animation among them.
const PNG_KEPT: [&[u8]; 13] = [
    b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"cICP", b"sBIT", b"bKGD", b"pHYs", b"sPLT", b"acTL", b"fcTL", b"fdAT",
];
const WEBP_KEPT: [&[u8]; 7] = [b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP"];

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::{DynamicImage, ImageDecoder as _, ImageFormat, ImageReader, RgbImage};

    use super::*;

    const SECRET: &[u8] = b"N 51 28 38";

    fn picture(format: ImageFormat) -> Vec<u8> {
        let image = RgbImage::from_fn(20, 10, |x, y| image::Rgb([x as u8 * 12, y as u8 * 25, 7]));
        let mut bytes = Vec::new();
        DynamicImage::from(image).write_to(&mut Cursor::new(&mut bytes), format).unwrap();
        bytes
    }

    /// EXIF with an orientation and, behind it, a place.
    fn exif() -> Vec<u8> {
        let mut exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0".to_vec();
        exif.extend_from_slice(SECRET);
        exif
    }

    fn decoded(bytes: &[u8]) -> (DynamicImage, Orientation) {
        let mut decoder = ImageReader::new(Cursor::new(bytes)).with_guessed_format().unwrap().into_decoder().unwrap();
        let orientation = decoder.orientation().unwrap();
        (DynamicImage::from_decoder(decoder).unwrap(), orientation)
    }

    #[track_caller]
    fn is_clean(with: &[u8], without: &[u8]) {
        let has = |bytes: &[u8]| bytes.windows(SECRET.len()).any(|part| part == SECRET);
        assert!(has(with));
        let stripped = stripped(with).unwrap();
        assert!(!has(&stripped));
        let (image, orientation) = decoded(&stripped);
        assert_eq!(image, decoded(without).0, "the pixels are the same");
        assert_eq!(orientation, Orientation::Rotate90);
        assert_eq!(super::stripped(&stripped).unwrap(), stripped, "there is nothing more to take out");
    }

    #[test]
    fn a_jpeg_loses_place_comment_and_what_stands_behind_its_end() {
        let plain = picture(ImageFormat::Jpeg);
        let segment =
            |marker: u8, body: &[u8]| [&[0xFF, marker], &(body.len() as u16 + 2).to_be_bytes()[..], body].concat();
        let app1 = segment(0xE1, &[EXIF, &exif()].concat());
        let comment = segment(0xFE, SECRET);
        let with = [&plain[..2], &app1, &comment, &segment(0xED, SECRET), &[0xFF], &plain[2..], SECRET].concat();
        is_clean(&with, &plain);
    }

    #[test]
    fn a_png_loses_its_texts() {
        let plain = picture(ImageFormat::Png);
        let chunk = |kind: &[u8], body: &[u8]| {
            let typed = [kind, body].concat();
            [&(body.len() as u32).to_be_bytes()[..], &typed, &crc32(&typed).to_be_bytes()].concat()
        };
        // Behind the header chunk of 25 bytes.
        let (head, rest) = plain.split_at(8 + 25);
        let with = [head, &chunk(b"eXIf", &exif()), &chunk(b"tEXt", SECRET), rest, SECRET].concat();
        is_clean(&with, &plain);
    }

    #[test]
    fn a_webp_loses_exif_and_xmp() {
        let plain = picture(ImageFormat::WebP);
        let chunk = |kind: &[u8], body: &[u8]| {
            let pad = vec![0; body.len() % 2];
            [kind, &(body.len() as u32).to_le_bytes()[..], body, &pad].concat()
        };
        let extended = chunk(b"VP8X", &[0x0C, 0, 0, 0, 19, 0, 0, 9, 0, 0]);
        let chunks = [&extended, &plain[12..], &chunk(b"EXIF", &exif()), &chunk(b"XMP ", SECRET)].concat();
        let with = [b"RIFF", &(chunks.len() as u32 + 4).to_le_bytes()[..], b"WEBP", &chunks].concat();
        is_clean(&with, &plain);
    }

    #[test]
    fn what_is_cut_short_or_something_else_is_left_alone() {
        for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
            let whole = picture(format);
            for len in 0..whole.len() {
                // Whatever comes out, nothing panics; a file that ends inside a part is none.
                let _ = stripped(&whole[..len]);
            }
            assert!(stripped(&whole[..whole.len() - 3]).is_none(), "{format:?}");
        }
        assert!(stripped(b"plain text").is_none() && stripped(b"").is_none());
    }
}
