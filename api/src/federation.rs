//! The server-server API: one file per endpoint, or per tight family. There is one router for all ways in.

mod version;

use crate::glue::Routes;

/// Registers every endpoint.
pub(crate) fn routes(routes: &mut Routes) {
    routes.add(version::handler);
}
