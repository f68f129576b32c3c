//! The downloads without an access token of Matrix 1.10 and older. They are frozen (client-server API, "Content
//! repository"): what was uploaded after the freeze is not found there, and this server was born after it.

#![allow(deprecated, reason = "answered for the clients that still ask")]

use millpond_node::Error;
use ruma::api::client::media::{get_content, get_content_as_filename, get_content_thumbnail};

use crate::glue::{Args, Http, Routes};

pub(super) fn routes(routes: &mut Routes) {
    routes.add(download);
    routes.add(download_as);
    routes.add(thumbnail);
}

async fn download(_: Args<get_content::v3::Request>) -> Result<Http, Error> {
    Err(frozen())
}

async fn download_as(_: Args<get_content_as_filename::v3::Request>) -> Result<Http, Error> {
    Err(frozen())
}

async fn thumbnail(_: Args<get_content_thumbnail::v3::Request>) -> Result<Http, Error> {
    Err(frozen())
}

fn frozen() -> Error {
    Error::not_found("media need an access token: ask below /_matrix/client/v1/media/")
}
