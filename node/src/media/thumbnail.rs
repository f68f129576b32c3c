//! Thumbnails (client-server API, "Thumbnails"): PNG, JPEG, GIF and WebP images made smaller, never larger.

use std::{
    fmt,
    io::{BufReader, Cursor, Seek as _},
};

use http::StatusCode;
use image::{
    DynamicImage, ImageDecoder as _, ImageError, ImageFormat, ImageReader, Limits, codecs::jpeg::JpegEncoder,
    imageops::FilterType, metadata::Orientation,
};
use millpond_store::rows::MediaContent;
use ruma::api::error::ErrorKind;

use super::{animation, download::Download, files::Files};
use crate::Error;

/// What a client asks for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Cut to the aspect ratio asked for, instead of fitting into it.
    pub crop: bool,
    /// Whether it may move: asked for, refused, or left to us, who then make a still one.
    pub animated: Option<bool>,
}

/// The size of a thumbnail that we make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    width: u32,
    height: u32,
    crop: bool,
    animated: bool,
}

/// What thumbnails are encoded as.
#[derive(Clone, Copy, Debug)]
pub(super) enum Format {
    Jpeg,
    Png,
    Gif,
}

impl Wanted {
    /// The size to make: of a few usual ones where possible, so that few are kept. None: give the original.
    pub(super) fn rounded(self) -> Option<Size> {
        let (width, height, crop) = (self.width.max(1), self.height.max(1), self.crop);
        let animated = self.animated == Some(true);
        if crop && width != height {
            return (width.max(height) <= LARGEST).then_some(Size { width, height, crop, animated });
        }
        let usual = if crop { &CROPPED[..] } else { &SCALED[..] };
        let fits = usual.iter().find(|(w, h)| *w >= width && *h >= height);
        fits.map(|&(width, height)| Size { width, height, crop, animated })
    }
}

impl Size {
    /// An image in this size; none if it would have to be made larger.
    pub(super) fn of(self, image: &DynamicImage) -> Option<DynamicImage> {
        let Self { width, height, crop, .. } = self;
        if crop {
            let large_enough = image.width() >= width && image.height() >= height;
            let same = (image.width(), image.height()) == (width, height);
            return (large_enough && !same).then(|| image.resize_to_fill(width, height, FilterType::Triangle));
        }
        (image.width() > width || image.height() > height).then(|| image.thumbnail(width, height))
    }

    /// Whether it is one of the few that are worth keeping.
    pub(super) fn is_usual(self) -> bool {
        !self.crop || self.width == self.height
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let method = if self.crop { "crop" } else { "scale" };
        write!(f, "{}x{}-{method}{}", self.width, self.height, if self.animated { "-animated" } else { "" })
    }
}

impl Format {
    pub(super) const ALL: [Self; 3] = [Self::Jpeg, Self::Png, Self::Gif];

    pub(super) fn extension(self) -> &'static str {
        match self {
            Self::Jpeg => "jpg",
            Self::Png => "png",
            Self::Gif => "gif",
        }
    }

    /// What is known about a thumbnail of `of`.
    pub(super) fn content(self, of: &MediaContent, len: u64) -> MediaContent {
        let content_type = match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::Gif => "image/gif",
        };
        let filename = Some(format!("thumbnail.{}", self.extension()));
        MediaContent { sha256: of.sha256, len, content_type: Some(content_type.to_owned()), filename }
    }
}

/// Makes a thumbnail of an open file; gives the file itself if it is not larger and moves no more than it may. Blocks.
pub(super) fn make(files: &Files, original: Download, size: Option<Size>, wanted: Wanted) -> Result<Download, Error> {
    let (format, reader) = open(&original)?;
    if let Some(size) = size.filter(|size| size.animated)
        && let Some(bytes) = animation::smaller(format, reader()?, limits(), size).map_err(|e| refused(&e))?
    {
        return files.keep_thumbnail(&original.content, size, Format::Gif, bytes);
    }
    let image = decode(format, reader()?)?;
    if let Some(size) = size
        && let Some(small) = size.of(&image)
    {
        let (format, bytes) = encode(&small)?;
        return files.keep_thumbnail(&original.content, size, format, bytes);
    }
    if wanted.animated == Some(false) && animation::is_animated(format, reader()?, limits()).map_err(|e| refused(&e))? {
        let (format, bytes) = encode(&image)?;
        return files.show(&original.content, format, bytes);
    }
    Ok(original)
}

/// The format of a file, and the file from its beginning as often as it is needed.
fn open(original: &Download) -> Result<(ImageFormat, impl Fn() -> Result<animation::Reader, Error> + use<>), Error> {
    let file = original.file().try_clone().map_err(|e| unreadable(&e))?;
    let reader = move || {
        // Clones share their place in the file.
        let mut file = file.try_clone().map_err(|e| unreadable(&e))?;
        file.rewind().map_err(|e| unreadable(&e))?;
        Ok(BufReader::new(file))
    };
    let guessed = ImageReader::new(reader()?).with_guessed_format().map_err(|e| refused(&e.into()))?;
    let format = guessed.format();
    let format =
        format.ok_or_else(|| Error::unknown("no thumbnail: the content is not a PNG, JPEG, GIF or WebP image"))?;
    Ok((format, reader))
}

fn unreadable(error: &std::io::Error) -> Error {
    Error::internal(format!("opening an image failed: {error}"))
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_alloc = Some(ALLOC_MAX);
    limits
}

fn decode(format: ImageFormat, reader: animation::Reader) -> Result<DynamicImage, Error> {
    let mut reader = ImageReader::with_format(reader, format);
    reader.limits(limits());
    let mut decoder = reader.into_decoder().map_err(|e| refused(&e))?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > PIXELS_MAX {
        return Err(too_large(format!("the image has {width}x{height} pixels, {PIXELS_MAX} are allowed")));
    }
    // A photo whose orientation cannot be read is shown as it lies.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(|e| refused(&e))?;
    image.apply_orientation(orientation);
    Ok(image)
}

fn encode(image: &DynamicImage) -> Result<(Format, Vec<u8>), Error> {
    let mut bytes = Vec::new();
    let (format, written) = if image.color().has_alpha() {
        let image = DynamicImage::from(image.to_rgba8());
        (Format::Png, image.write_to(&mut Cursor::new(&mut bytes), image::ImageFormat::Png))
    } else {
        (Format::Jpeg, image.to_rgb8().write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, QUALITY)))
    };
    written.map_err(|e| Error::internal(format!("encoding a thumbnail failed: {e}")))?;
    Ok((format, bytes))
}

fn refused(error: &ImageError) -> Error {
    match error {
        ImageError::Limits(limit) => too_large(format!("the image is too large: {limit}")),
        ImageError::Unsupported(what) => Error::unknown(format!("no thumbnail: {what}")),
        other => Error::unknown(format!("no thumbnail: the image is damaged: {other}")),
    }
}

fn too_large(message: String) -> Error {
    Error::matrix(StatusCode::PAYLOAD_TOO_LARGE, ErrorKind::TooLarge, message)
}

/// Sizes that "crop" is rounded up to; the first two are the specification's.
const CROPPED: [(u32, u32); 6] = [(32, 32), (96, 96), (192, 192), (384, 384), (768, 768), (LARGEST, LARGEST)];
/// Sizes that "scale" is rounded up to; the first three are the specification's.
const SCALED: [(u32, u32); 4] = [(320, 240), (640, 480), (800, 600), (LARGEST, 1200)];
/// The largest side of a thumbnail; who wants more gets the original.
const LARGEST: u32 = 1600;
/// Pixels of an image that is decoded: the largest photos of phones have 50 to 108 million; this many take 256 MB.
const PIXELS_MAX: u64 = 64_000_000;
/// Bytes that a decoder may allocate.
const ALLOC_MAX: u64 = 384 << 20;
/// JPEG quality, of 100.
const QUALITY: u8 = 80;
