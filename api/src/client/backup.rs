//! `/_matrix/client/v3/room_keys/*`: key backups.

mod sessions;
mod version;

use crate::glue::Routes;

pub(crate) fn routes(routes: &mut Routes) {
    sessions::routes(routes);
    version::routes(routes);
}
