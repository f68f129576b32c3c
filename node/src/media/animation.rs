//! Animated images: telling them from still ones, and making them smaller frame by frame. Thumbnails of them are GIFs.

use std::io::{BufReader, Cursor, Seek as _};

use image::{
    AnimationDecoder, DynamicImage, Frame, Frames, ImageDecoder as _, ImageError, ImageFormat, Limits,
    codecs::{
        gif::{GifDecoder, GifEncoder, Repeat},
        png::PngDecoder,
        webp::WebPDecoder,
    },
};

use super::thumbnail::Size;

/// An open image file.
pub(super) type Reader = BufReader<std::fs::File>;

/// The frames of an image that moves; none for one that stands still or is of another format.
fn frames(format: ImageFormat, mut reader: Reader, limits: Limits) -> Result<Option<Frames<'static>>, ImageError> {
    reader.rewind()?;
    match format {
        ImageFormat::Gif => {
            let mut decoder = GifDecoder::new(reader)?;
            decoder.set_limits(limits)?;
            Ok(Some(decoder.into_frames()))
        }
        ImageFormat::WebP => {
            let mut decoder = WebPDecoder::new(reader)?;
            decoder.set_limits(limits)?;
            Ok(decoder.has_animation().then(|| decoder.into_frames()))
        }
        ImageFormat::Png => {
            let decoder = PngDecoder::with_limits(reader, limits)?;
            Ok(if decoder.is_apng()? { Some(decoder.apng()?.into_frames()) } else { None })
        }
        _ => Ok(None),
    }
}

/// Whether an image has more than one frame.
pub(super) fn is_animated(format: ImageFormat, reader: Reader, limits: Limits) -> Result<bool, ImageError> {
    Ok(frames(format, reader, limits)?.is_some_and(|frames| frames.take(2).count() == 2))
}

/// An animation made smaller, as a GIF; none for an image that stands still, needs not be made smaller or has too much to
/// decode: of that a still one is made. Blocks.
pub(super) fn smaller(
    format: ImageFormat,
    reader: Reader,
    limits: Limits,
    size: Size,
) -> Result<Option<Vec<u8>>, ImageError> {
    let Some(frames) = frames(format, reader, limits)? else { return Ok(None) };
    let (mut small, mut pixels) = (Vec::new(), 0);
    for frame in frames {
        let frame = frame?;
        let delay = frame.delay();
        let image = DynamicImage::from(frame.into_buffer());
        pixels += u64::from(image.width()) * u64::from(image.height());
        if pixels > PIXELS_MAX {
            return Ok(None);
        }
        let Some(resized) = size.of(&image) else { return Ok(None) };
        small.push(Frame::from_parts(resized.into_rgba8(), 0, 0, delay));
    }
    if small.len() < 2 {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new_with_speed(Cursor::new(&mut bytes), SPEED);
    encoder.set_repeat(Repeat::Infinite)?;
    encoder.encode_frames(small)?;
    drop(encoder);
    Ok(Some(bytes))
}

/// Pixels of all frames together that are decoded: some seconds of work.
const PIXELS_MAX: u64 = 128_000_000;
/// Of 30: how much quality the choice of colours may cost.
const SPEED: i32 = 20;
