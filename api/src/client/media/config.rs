//! `GET /_matrix/client/v1/media/config`, and the older `/_matrix/media/v3/config`.

use millpond_node::{Error, media::Media};
use ruma::{
    UInt,
    api::client::{authenticated_media::get_media_config, media::get_media_config as older},
};

use crate::glue::{Args, Routes};

pub(super) fn routes(routes: &mut Routes) {
    routes.add(config);
    routes.add(older_config);
}

async fn config(media: Media, _: Args<get_media_config::v1::Request>) -> Result<get_media_config::v1::Response, Error> {
    Ok(get_media_config::v1::Response::new(UInt::new_saturating(media.max_upload())))
}

#[allow(deprecated, reason = "clients of Matrix 1.10 and older ask here")]
async fn older_config(media: Media, _: Args<older::v3::Request>) -> Result<older::v3::Response, Error> {
    Ok(older::v3::Response::new(UInt::new_saturating(media.max_upload())))
}
