//! The client-server API: one file per endpoint, or per tight family such as the verbs of one path.

mod devices;
mod versions;
mod whoami;

use crate::glue::Routes;

/// Registers every endpoint.
pub(crate) fn routes(routes: &mut Routes) {
    routes.add(versions::handler);
    routes.add(whoami::handler);
    devices::routes(routes);
}
