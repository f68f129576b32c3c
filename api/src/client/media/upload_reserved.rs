//! `POST /_matrix/media/v1/create` and `PUT /_matrix/media/v3/upload/{serverName}/{mediaId}`.

use http_body::Body as _;
use millpond_node::{
    Error,
    media::{Label, Media},
};
use ruma::api::client::media::{create_content_async, create_mxc_uri};

use crate::glue::{Args, Http, Routes, Upload};

pub(super) fn routes(routes: &mut Routes) {
    routes.add(create);
    routes.add(upload);
}

async fn create(
    media: Media,
    Args { sender, .. }: Args<create_mxc_uri::v1::Request>,
) -> Result<create_mxc_uri::v1::Response, Error> {
    let (uri, expires) = media.reserve(&sender.user_id).await?;
    let mut response = create_mxc_uri::v1::Response::new(uri);
    response.unused_expires_at = Some(expires);
    Ok(response)
}

async fn upload(media: Media, upload: Upload<create_content_async::v3::Request>) -> Result<Http, Error> {
    let Upload { args: Args { sender, request, .. }, body } = upload;
    let label = Label { content_type: request.content_type, filename: request.filename };
    let announced = body.size_hint().exact();
    let id = (&*request.server_name, request.media_id.as_str());
    media.upload_reserved(&sender.user_id, id, label, announced, body.into_data_stream()).await?;
    Ok(Http::json("{}"))
}
