//! The content repository: uploads, downloads, thumbnails, limits.

mod answer;
mod config;
mod download;
mod preview;
mod thumbnail;
mod unauthenticated;
mod upload;
mod upload_reserved;

use crate::glue::Routes;

/// Registers the endpoints.
pub(crate) fn routes(routes: &mut Routes) {
    config::routes(routes);
    download::routes(routes);
    preview::routes(routes);
    routes.add(thumbnail::handler);
    unauthenticated::routes(routes);
    routes.add(upload::handler);
    upload_reserved::routes(routes);
}
