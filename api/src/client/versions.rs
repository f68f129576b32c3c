//! `GET /_matrix/client/versions`

use millpond_node::Error;
use ruma::api::client::discovery::get_supported_versions::{Request, Response};

use crate::glue::Args;

/// The versions of the specification of which we serve what clients use. A version is added when it holds.
const VERSIONS: [&str; 22] = [
    "r0.5.0", "r0.6.0", "r0.6.1", "v1.1", "v1.2", "v1.3", "v1.4", "v1.5", "v1.6", "v1.7", "v1.8", "v1.9", "v1.10",
    "v1.11", "v1.12", "v1.13", "v1.14", "v1.15", "v1.16", "v1.17", "v1.18", "v1.19",
];

/// What clients ask for before it is part of a version.
const FEATURES: [&str; 2] = [
    // Delayed events (MSC4140).
    "org.matrix.msc4140",
    // Sliding sync (MSC4186).
    "org.matrix.simplified_msc3575",
];

pub(crate) async fn handler(_: Args<Request>) -> Result<Response, Error> {
    let mut response = Response::new(VERSIONS.map(str::to_owned).to_vec());
    response.unstable_features = FEATURES.map(|feature| (feature.to_owned(), true)).into();
    Ok(response)
}
