//! The client-server API: one file per endpoint, or per tight family such as the verbs of one path.

mod account_password;
mod admin;
mod auth_metadata;
mod backup;
mod capabilities;
mod deactivate;
mod delete_devices;
mod devices;
mod ephemeral;
mod keys;
mod legacy;
mod login;
mod login_token;
mod logout;
mod media;
mod refresh;
mod register;
mod register_checks;
mod reports;
mod rooms;
mod search;
mod send_to_device;
mod sliding_sync;
mod sso;
mod synapse_register;
mod sync;
mod thirdparty;
mod threepids;
mod turn_server;
mod user;
mod user_directory;
mod versions;
mod well_known;
mod whoami;

use crate::glue::Routes;

/// Registers every endpoint.
pub(crate) fn routes(routes: &mut Routes) {
    routes.add(account_password::handler);
    admin::routes(routes);
    routes.add(auth_metadata::handler);
    backup::routes(routes);
    routes.add(capabilities::handler);
    routes.add(deactivate::handler);
    delete_devices::routes(routes);
    devices::routes(routes);
    keys::routes(routes);
    legacy::routes(routes);
    login::routes(routes);
    routes.add(login_token::handler);
    logout::routes(routes);
    routes.add(refresh::handler);
    routes.add(register::handler);
    register_checks::routes(routes);
    reports::routes(routes);
    rooms::routes(routes);
    routes.add(search::handler);
    routes.add(send_to_device::handler);
    routes.add(sliding_sync::handler);
    sso::routes(routes);
    routes.add(sync::handler);
    synapse_register::routes(routes);
    thirdparty::routes(routes);
    threepids::routes(routes);
    routes.add(turn_server::handler);
    routes.add(user_directory::handler);
    routes.add(versions::handler);
    well_known::routes(routes);
    routes.add(whoami::handler);
    ephemeral::routes(routes);
    media::routes(routes);
    user::routes(routes);
}
