//! `/media/download` and `/media/thumbnail`: files of our users for other servers, as `multipart/mixed`.

use millpond_node::{Error, federation::Federation, media::Wanted};
use ruma::{
    UInt,
    api::federation::authenticated_media::{get_content, get_content_thumbnail},
    media::Method,
};

use crate::glue::{Args, Routes};

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(download);
    routes.add(thumbnail);
}

async fn download(
    federation: Federation,
    Args { request, .. }: Args<get_content::v1::Request>,
) -> Result<get_content::v1::Response, Error> {
    federation.media(&request.media_id, None, request.timeout_ms).await
}

async fn thumbnail(
    federation: Federation,
    Args { request, .. }: Args<get_content_thumbnail::v1::Request>,
) -> Result<get_content::v1::Response, Error> {
    let crop = request.method == Some(Method::Crop);
    let wanted =
        Wanted { width: pixels(request.width)?, height: pixels(request.height)?, crop, animated: request.animated };
    federation.media(&request.media_id, Some(wanted), request.timeout_ms).await
}

fn pixels(side: UInt) -> Result<u32, Error> {
    let side = u32::try_from(u64::from(side)).ok().filter(|side| *side > 0);
    side.ok_or_else(|| Error::invalid_param("width and height must be numbers of pixels greater than 0"))
}
