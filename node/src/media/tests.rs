use std::{
    convert::Infallible,
    io::Cursor,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use futures::{FutureExt as _, TryStreamExt as _, stream};
use image::{DynamicImage, ImageFormat, Rgb, RgbImage, RgbaImage};
use ruma::{http_headers::ContentDispositionType, server_name, user_id};

use super::*;
use crate::testing;

const WAIT: Duration = Duration::from_secs(20);

struct Node {
    media: Media,
    dir: tempfile::TempDir,
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { media: Media::new(testing::core_in(dir.path())), dir }
    }

    fn server(&self) -> OwnedServerName {
        self.media.0.core.identity().server_name().to_owned()
    }

    /// Uploads and gives the media id.
    async fn upload(&self, content_type: &str, bytes: impl Into<Bytes>) -> String {
        let label = Label { content_type: Some(content_type.to_owned()), filename: Some("cat.png".to_owned()) };
        let uri = self.media.upload(alice(), label, None, body(bytes)).await.unwrap();
        uri.media_id().unwrap().to_owned()
    }

    async fn read(&self, media_id: &str) -> Vec<u8> {
        all(&self.media.download(&self.server(), media_id, WAIT).await.unwrap()).await
    }

    async fn thumbnail(&self, media_id: &str, width: u32, height: u32, crop: bool) -> Result<Download, Error> {
        self.media.thumbnail(&self.server(), media_id, Wanted { width, height, crop, animated: None }, WAIT).await
    }

    /// The files under `media`, unfinished ones included.
    fn files(&self) -> Vec<std::path::PathBuf> {
        fn walk(dir: &Path, found: &mut Vec<std::path::PathBuf>) {
            for entry in std::fs::read_dir(dir).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() { walk(&path, found) } else { found.push(path) }
            }
        }
        let mut found = Vec::new();
        walk(&self.dir.path().join("media"), &mut found);
        found
    }
}

fn alice() -> &'static UserId {
    user_id!("@alice:here")
}

fn body(bytes: impl Into<Bytes>) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    let bytes = bytes.into();
    let chunks: Vec<_> = bytes.chunks(70_001).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    stream::iter(chunks)
}

async fn all(download: &Download) -> Vec<u8> {
    let blocks: Vec<Bytes> = download.bytes(0..download.len()).try_collect().await.unwrap();
    blocks.concat()
}

fn kind(error: &Error) -> Option<ErrorKind> {
    error.kind().cloned()
}

fn png(width: u32, height: u32) -> Vec<u8> {
    encoded(DynamicImage::from(RgbImage::from_fn(width, height, |x, y| Rgb([x as u8, y as u8, 0]))), ImageFormat::Png)
}

fn encoded(image: DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    image.write_to(&mut Cursor::new(&mut bytes), format).unwrap();
    bytes
}

#[tokio::test]
async fn a_file_comes_back_whole_and_in_parts() {
    let node = Node::new();
    let content: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let id = node.upload("video/mp4", content.clone()).await;
    assert_eq!(node.read(&id).await, content);
    let download = node.media.download(&node.server(), &id, WAIT).await.unwrap();
    let part: Vec<Bytes> = download.bytes(999_999..2_000_001).try_collect().await.unwrap();
    assert_eq!(part.concat(), content[999_999..2_000_001]);
    let empty = node.upload("text/plain", Bytes::new()).await;
    assert_eq!(node.read(&empty).await, b"");
}

#[tokio::test]
async fn equal_files_are_kept_once_readable_by_their_owner_only() {
    let node = Node::new();
    let (one, two) = (node.upload("text/plain", "same").await, node.upload("text/html", "same").await);
    assert_ne!(one, two);
    let files = node.files();
    assert_eq!(files.len(), 1);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(files[0].metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(files[0].parent().unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }
}

#[tokio::test]
async fn what_is_too_large_or_breaks_off_leaves_nothing() {
    let node = Node::new();
    let max = node.media.max_upload();
    let announced = node.media.upload(alice(), Label::default(), Some(max + 1), body("x")).await.unwrap_err();
    assert_eq!(kind(&announced), Some(ErrorKind::TooLarge));
    let block = Bytes::from(vec![0; 1 << 20]);
    let endless = stream::repeat_with(move || Ok::<_, Infallible>(block.clone()));
    let error = node.media.upload(alice(), Label::default(), None, endless).await.unwrap_err();
    assert_eq!(kind(&error), Some(ErrorKind::TooLarge));
    let broken = stream::iter([Ok(Bytes::from(vec![1; 2 << 20])), Err("reset")]);
    let error = node.media.upload(alice(), Label::default(), None, broken).await.unwrap_err();
    assert_eq!(kind(&error), Some(ErrorKind::Unknown));
    // The last block of a broken upload may still be on its way to the disk.
    while !node.files().is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn ids_that_are_no_ids_and_unknown_ones_are_refused() {
    let node = Node::new();
    for (id, expected) in [("../../etc/passwd", ErrorKind::InvalidParam), ("nothing", ErrorKind::NotFound)] {
        for server in [node.server(), server_name!("there").to_owned()] {
            let error = node.media.download(&server, id, WAIT).await.err().unwrap();
            assert_eq!(kind(&error), Some(expected.clone()));
        }
    }
}

#[tokio::test]
async fn only_harmless_types_are_shown_inline() {
    let node = Node::new();
    for (content_type, inline) in
        [("image/png", true), ("text/plain; charset=utf-8", true), ("text/html", false), ("image/svg+xml", false)]
    {
        let id = node.upload(content_type, "x").await;
        let download = node.media.download(&node.server(), &id, WAIT).await.unwrap();
        let disposition = download.disposition(None);
        assert_eq!(disposition.disposition_type == ContentDispositionType::Inline, inline, "{content_type}");
        assert_eq!(disposition.filename.as_deref(), Some("cat.png"));
        assert_eq!(download.disposition(Some("dog.png".to_owned())).filename.as_deref(), Some("dog.png"));
    }
}

#[tokio::test]
async fn a_reserved_id_takes_one_upload_of_its_owner() {
    let node = Node::new();
    let (uri, _) = node.media.reserve(alice()).await.unwrap();
    let (server, id) = uri.parts().unwrap();
    let upload =
        |user: &'static UserId| node.media.upload_reserved(user, (server, id), Label::default(), None, body("content"));
    assert_eq!(kind(&upload(user_id!("@eve:here")).await.unwrap_err()), Some(ErrorKind::Forbidden));
    upload(alice()).await.unwrap();
    assert_eq!(node.read(id).await, b"content");
    assert_eq!(kind(&upload(alice()).await.unwrap_err()), Some(ErrorKind::CannotOverwriteMedia));
}

#[tokio::test]
async fn too_many_reserved_ids_are_refused() {
    let node = Node::new();
    for _ in 0..RESERVED_MAX {
        node.media.reserve(alice()).await.unwrap();
    }
    let error = node.media.reserve(alice()).await.unwrap_err();
    assert!(matches!(error, Error::Matrix { status: StatusCode::TOO_MANY_REQUESTS, .. }));
}

#[tokio::test(start_paused = true)]
async fn a_download_waits_for_the_upload() {
    let node = Node::new();
    let (uri, _) = node.media.reserve(alice()).await.unwrap();
    let (server, id) = uri.parts().unwrap();
    let error = node.media.download(server, id, Duration::from_secs(1)).await.err().unwrap();
    assert_eq!(kind(&error), Some(ErrorKind::NotYetUploaded));
    let mut waiting = Box::pin(node.media.download(server, id, WAIT));
    assert!((&mut waiting).now_or_never().is_none());
    node.media.upload_reserved(alice(), (server, id), Label::default(), None, body("late")).await.unwrap();
    assert_eq!(all(&waiting.await.unwrap()).await, b"late");
}

#[tokio::test]
async fn a_thumbnail_fits_or_fills_and_is_made_once() {
    let node = Node::new();
    let id = node.upload("image/png", png(1000, 500)).await;
    for (crop, expected) in [(false, (320, 160)), (true, (96, 96))] {
        let wanted = if crop { (90, 90) } else { (300, 200) };
        let made = node.thumbnail(&id, wanted.0, wanted.1, crop).await.unwrap();
        assert_eq!(made.content_type(), "image/jpeg");
        let bytes = all(&made).await;
        let image = image::load_from_memory(&bytes).unwrap();
        assert_eq!((image.width(), image.height()), expected);
        let files = node.files().len();
        assert_eq!(all(&node.thumbnail(&id, wanted.0, wanted.1, crop).await.unwrap()).await, bytes);
        assert_eq!(node.files().len(), files);
    }
    assert_eq!(node.files().len(), 3);
    let odd = image::load_from_memory(&all(&node.thumbnail(&id, 50, 100, true).await.unwrap()).await).unwrap();
    assert_eq!((odd.width(), odd.height()), (50, 100));
    assert_eq!(node.files().len(), 3, "unusual sizes are not kept");
}

#[tokio::test]
async fn an_image_is_never_made_larger_and_keeps_its_transparency() {
    let node = Node::new();
    let small = png(50, 40);
    let id = node.upload("image/png", small.clone()).await;
    for crop in [true, false] {
        assert_eq!(all(&node.thumbnail(&id, 96, 96, crop).await.unwrap()).await, small);
    }
    let clear = encoded(DynamicImage::from(RgbaImage::new(700, 700)), ImageFormat::Png);
    let id = node.upload("image/png", clear).await;
    let made = node.thumbnail(&id, 32, 32, true).await.unwrap();
    assert_eq!(made.content_type(), "image/png");
    assert!(image::load_from_memory(&all(&made).await).unwrap().color().has_alpha());
}

#[tokio::test]
async fn what_cannot_be_a_thumbnail_says_why() {
    let node = Node::new();
    let mut broken = png(500, 500);
    broken.truncate(broken.len() / 2);
    let refused = [
        (broken, ErrorKind::Unknown, "damaged"),
        (b"just text, no image".to_vec(), ErrorKind::Unknown, "not a PNG"),
        (header_of_a_huge_png(), ErrorKind::TooLarge, "100000x100000"),
    ];
    for (content, expected, says) in refused {
        let id = node.upload("image/png", content).await;
        let error = node.thumbnail(&id, 32, 32, true).await.err().unwrap();
        assert_eq!(kind(&error), Some(expected));
        assert!(error.to_string().contains(says), "{error}");
    }
}

/// A PNG that claims 100,000 x 100,000 pixels.
fn header_of_a_huge_png() -> Vec<u8> {
    let mut png = png(1, 1);
    let side = 100_000u32.to_be_bytes();
    png[16..20].copy_from_slice(&side);
    png[20..24].copy_from_slice(&side);
    let crc = crc32(&png[12..29]).to_be_bytes();
    png[29..33].copy_from_slice(&crc);
    png
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

struct Peer(AtomicUsize);

impl MediaSource for Peer {
    fn fetch<'a>(
        &'a self,
        _: &'a ServerName,
        media_id: &'a str,
        _: Duration,
    ) -> BoxFuture<'a, Result<RemoteMedia, Error>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            let endless = stream::repeat_with(|| Ok(Bytes::from(vec![0; 1 << 20])));
            let body = if media_id == "huge" { endless.boxed() } else { stream::iter([Ok("theirs".into())]).boxed() };
            Ok(RemoteMedia { label: Label::default(), body })
        })
    }
}

#[tokio::test]
async fn a_file_of_a_peer_is_fetched_once_and_bounded() {
    let node = Node::new();
    let peer = Arc::new(Peer(AtomicUsize::new(0)));
    node.media.use_source(peer.clone());
    let there = server_name!("there");
    let download = || node.media.download(there, "abc", WAIT);
    let (one, two) = futures::join!(download(), download());
    assert_eq!(all(&one.unwrap()).await, b"theirs");
    assert_eq!(all(&two.unwrap()).await, b"theirs");
    assert_eq!(all(&download().await.unwrap()).await, b"theirs");
    assert_eq!(peer.0.load(Ordering::Relaxed), 1);
    let error = node.media.download(there, "huge", WAIT).await.err().unwrap();
    assert!(matches!(error, Error::Matrix { status: StatusCode::BAD_GATEWAY, kind: ErrorKind::TooLarge, .. }));
}

/// A GIF of as many frames, each of another grey.
fn gif(frames: u8, side: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = image::codecs::gif::GifEncoder::new(&mut bytes);
    for n in 0..frames {
        let image = RgbaImage::from_pixel(side, side, image::Rgba([n * 50, n * 50, n * 50, 255]));
        let delay = image::Delay::from_numer_denom_ms(100, 1);
        encoder.encode_frame(image::Frame::from_parts(image, 0, 0, delay)).unwrap();
    }
    drop(encoder);
    bytes
}

fn frames(gif: &[u8]) -> Vec<image::Frame> {
    use image::AnimationDecoder as _;
    let decoder = image::codecs::gif::GifDecoder::new(Cursor::new(gif)).unwrap();
    decoder.into_frames().collect_frames().unwrap()
}

#[tokio::test]
async fn an_animation_moves_where_it_may_and_stands_still_where_it_must() {
    let node = Node::new();
    let (large, small, still) = (gif(3, 400), gif(3, 20), gif(1, 400));
    let thumbnail = async |bytes: &[u8], animated: Option<bool>| {
        let id = node.upload("image/gif", bytes.to_vec()).await;
        let wanted = Wanted { width: 96, height: 96, crop: true, animated };
        let made = node.media.thumbnail(&node.server(), &id, wanted, WAIT).await.unwrap();
        (made.content_type().to_owned(), all(&made).await)
    };
    let (kind, moving) = thumbnail(&large, Some(true)).await;
    assert_eq!(kind, "image/gif");
    let moving = frames(&moving);
    assert_eq!((moving.len(), moving[0].buffer().dimensions()), (3, (96, 96)));
    assert_eq!(moving[1].delay().numer_denom_ms(), (100, 1));
    for animated in [Some(false), None] {
        assert_ne!(thumbnail(&large, animated).await.0, "image/gif");
    }
    assert_eq!(thumbnail(&small, Some(true)).await.1, small, "not larger than asked for: as it is");
    let (kind, first) = thumbnail(&small, Some(false)).await;
    assert_eq!(kind, "image/png");
    assert_eq!(image::load_from_memory(&first).unwrap().width(), 20);
    assert_ne!(thumbnail(&still, Some(true)).await.0, "image/gif");
    assert_eq!(thumbnail(&png(20, 20), Some(false)).await.1, png(20, 20));
}

#[tokio::test]
async fn pictures_lose_their_metadata_where_the_settings_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = crate::config::Config::new(dir.path().to_owned());
    config.strip_metadata = true;
    let core = testing::core_in(dir.path());
    let core =
        Core::new(core.store().clone(), core.identity().clone(), core.notifier().clone(), core.clock().clone(), config);
    let node = Node { media: Media::new(core), dir };
    let plain = png(30, 30);
    let body = b"tEXtLocation\0here";
    let crc = crc32(body).to_be_bytes();
    let text = [&(body.len() as u32 - 4).to_be_bytes()[..], body, &crc].concat();
    let with = [&plain[..33], &text, &plain[33..]].concat();
    assert!(image::load_from_memory(&with).is_ok());
    let id = node.upload("image/png", with.clone()).await;
    assert_eq!(node.read(&id).await, plain);
    let broken = with[..with.len() - 4].to_vec();
    let id = node.upload("image/png", broken.clone()).await;
    assert_eq!(node.read(&id).await, broken, "what is no whole picture stays as it is");
    let other = Node::new();
    let id = other.upload("image/png", with.clone()).await;
    assert_eq!(other.read(&id).await, with, "without the setting nothing is touched");
}

#[tokio::test]
async fn a_withheld_file_is_given_to_nobody_until_it_is_free_again() {
    let node = Node::new();
    let peer = Arc::new(Peer(AtomicUsize::new(0)));
    node.media.use_source(peer.clone());
    let (server, there) = (node.server(), server_name!("there"));
    let id = node.upload("text/plain", "bad").await;
    for (server, id) in [(&*server, id.as_str()), (there, "theirs")] {
        node.media.quarantine(server, id, true).await.unwrap();
        let error = node.media.download(server, id, WAIT).await.err().unwrap();
        assert_eq!(kind(&error), Some(ErrorKind::NotFound));
    }
    assert_eq!(peer.0.load(Ordering::Relaxed), 0, "a withheld file is not fetched");
    for (server, id) in [(&*server, id.as_str()), (there, "theirs")] {
        node.media.quarantine(server, id, false).await.unwrap();
        node.media.download(server, id, WAIT).await.unwrap();
    }
    let unknown = node.media.quarantine(&server, "none", true).await.unwrap_err();
    assert_eq!(kind(&unknown), Some(ErrorKind::NotFound));
}

#[tokio::test]
async fn files_of_peers_go_by_age_and_size_and_come_back_when_they_are_asked_for() {
    let node = Node::new();
    let peer = Arc::new(Peer(AtomicUsize::new(0)));
    node.media.use_source(peer.clone());
    let there = server_name!("there");
    let own = node.upload("text/plain", "mine").await;
    for id in ["a", "b", "c"] {
        node.media.download(there, id, WAIT).await.unwrap();
    }
    // Three files of six bytes, all fetched at the same time; equal content is one file.
    assert_eq!(node.media.evict(Keep::default()).await.unwrap(), 0);
    assert_eq!(node.media.evict(Keep { bytes: Some(12), age_ms: None }).await.unwrap(), 1);
    node.media.download(there, "c", WAIT).await.unwrap();
    assert_eq!(node.files().len(), 2, "the content of the others is still there");
    assert_eq!(node.media.evict(Keep { bytes: Some(0), age_ms: None }).await.unwrap(), 2);
    assert_eq!(node.files().len(), 1);
    assert_eq!(node.read(&own).await, b"mine");
    assert_eq!(peer.0.load(Ordering::Relaxed), 3);
    node.media.download(there, "a", WAIT).await.unwrap();
    assert_eq!(peer.0.load(Ordering::Relaxed), 4);
}
