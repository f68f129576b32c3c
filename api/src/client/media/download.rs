//! `GET /_matrix/client/v1/media/download/{serverName}/{mediaId}`, and the same with a file name.

use millpond_node::{Error, media::Media};
use ruma::api::client::authenticated_media::{get_content, get_content_as_filename};

use super::answer::file;
use crate::glue::{Args, Http, Ranged, Routes};

pub(super) fn routes(routes: &mut Routes) {
    routes.add(download);
    routes.add(download_as);
}

async fn download(media: Media, ranged: Ranged<get_content::v1::Request>) -> Result<Http, Error> {
    let Ranged { args: Args { request, .. }, part } = ranged;
    let found = media.download(&request.server_name, &request.media_id, request.timeout_ms).await?;
    file(&found, None, &part)
}

async fn download_as(media: Media, ranged: Ranged<get_content_as_filename::v1::Request>) -> Result<Http, Error> {
    let Ranged { args: Args { request, .. }, part } = ranged;
    let found = media.download(&request.server_name, &request.media_id, request.timeout_ms).await?;
    file(&found, Some(request.filename), &part)
}
