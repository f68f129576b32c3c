//! `GET /_matrix/client/v1/media/thumbnail/{serverName}/{mediaId}`.

use millpond_node::{
    Error,
    media::{Media, Wanted},
};
use ruma::{UInt, api::client::authenticated_media::get_content_thumbnail::v1::Request, media::Method};

use super::answer::file;
use crate::glue::{Args, Http, Ranged};

pub(super) async fn handler(media: Media, ranged: Ranged<Request>) -> Result<Http, Error> {
    let Ranged { args: Args { request, .. }, part } = ranged;
    let crop = match request.method {
        None | Some(Method::Scale) => false,
        Some(Method::Crop) => true,
        Some(_) => return Err(Error::invalid_param("method must be crop or scale")),
    };
    let (width, height) = (pixels(request.width, "width")?, pixels(request.height, "height")?);
    let wanted = Wanted { width, height, crop, animated: request.animated };
    let found = media.thumbnail(&request.server_name, &request.media_id, wanted, request.timeout_ms).await?;
    file(&found, None, &part)
}

fn pixels(side: UInt, name: &str) -> Result<u32, Error> {
    let side = u32::try_from(u64::from(side)).ok().filter(|side| *side > 0);
    side.ok_or_else(|| Error::unknown(format!("{name} must be a number of pixels greater than 0")))
}
