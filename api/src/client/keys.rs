//! `/_matrix/client/v3/keys/*`: end-to-end encryption keys.

mod changes;
mod claim;
mod device_signing;
mod query;
mod signatures;
mod upload;

use crate::glue::Routes;

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(changes::handler);
    routes.add(claim::handler);
    routes.add(device_signing::handler);
    routes.add(query::handler);
    routes.add(signatures::handler);
    routes.add(upload::handler);
}
