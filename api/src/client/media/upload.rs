//! `POST /_matrix/media/v3/upload`.

use http_body::Body as _;
use millpond_node::{
    Error,
    media::{Label, Media},
};
use ruma::api::client::media::create_content::v3::{Request, Response};

use crate::glue::{Args, Upload};

pub(super) async fn handler(media: Media, upload: Upload<Request>) -> Result<Response, Error> {
    let Upload { args: Args { sender, request, .. }, body } = upload;
    let label = Label { content_type: request.content_type, filename: request.filename };
    let announced = body.size_hint().exact();
    let uri = media.upload(&sender.user_id, label, announced, body.into_data_stream()).await?;
    Ok(Response::new(uri))
}
