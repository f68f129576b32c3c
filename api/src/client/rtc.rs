//! `GET /_matrix/client/unstable/org.matrix.msc4143/rtc/transports` (MSC4143): where group calls meet.

use http::Method;
use millpond_node::{Core, Error};
use ruma::api::auth_scheme::AccessToken;
use serde_json::{Value, json};

use crate::glue::{Http, Plain, Routes};

pub(crate) fn routes(routes: &mut Routes) {
    routes.add_at(Method::GET, &["/_matrix/client/unstable/org.matrix.msc4143/rtc/transports"], transports);
}

async fn transports(core: Core, _: Plain<AccessToken>) -> Result<Http, Error> {
    Http::of(&json!({ "rtc_transports": configured(&core) }))
}

/// The transports that the owner has configured.
pub(super) fn configured(core: &Core) -> Vec<Value> {
    let of = |url: &String| json!({ "type": "livekit", "livekit_service_url": url });
    core.config().livekit.iter().map(of).collect()
}
