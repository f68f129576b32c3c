//! `GET /_matrix/client/v1/media/preview_url`, and the older `/_matrix/media/v3/preview_url`.

use millpond_node::{Error, previews::Previews};
use ruma::api::client::{authenticated_media::get_media_preview, media::get_media_preview as older};

use crate::glue::{Args, Http, Routes};

pub(super) fn routes(routes: &mut Routes) {
    routes.add(preview);
    routes.add(older_preview);
}

async fn preview(previews: Previews, args: Args<get_media_preview::v1::Request>) -> Result<Http, Error> {
    Ok(Http::json(previews.preview(&args.request.url).await?))
}

#[allow(deprecated, reason = "clients of Matrix 1.10 and older ask here")]
async fn older_preview(previews: Previews, args: Args<older::v3::Request>) -> Result<Http, Error> {
    Ok(Http::json(previews.preview(&args.request.url).await?))
}
