//! Rooms: making them, sending into them, memberships, reading them, the directory.

mod alias;
mod context;
mod create;
mod directory;
mod event;
mod join;
mod joined;
mod leave;
mod members;
mod messages;
mod moderation;
mod mutual;
mod outside;
mod public_rooms;
mod redact;
mod relations;
mod send;
mod send_once;
mod state;
mod threads;
mod timestamp;
mod upgrade;

use ruma::{CanonicalJsonObject, CanonicalJsonValue};

use crate::glue::Routes;

/// Registers the endpoints.
pub(crate) fn routes(routes: &mut Routes) {
    routes.add(create::handler);
    routes.add(send::handler);
    routes.add(redact::handler);
    routes.add(messages::handler);
    routes.add(context::handler);
    routes.add(event::handler);
    routes.add(joined::handler);
    routes.add(threads::handler);
    routes.add(timestamp::handler);
    routes.add(upgrade::handler);
    alias::routes(routes);
    directory::routes(routes);
    join::routes(routes);
    leave::routes(routes);
    members::routes(routes);
    moderation::routes(routes);
    mutual::routes(routes);
    outside::routes(routes);
    public_rooms::routes(routes);
    relations::routes(routes);
    send_once::routes(routes);
    state::routes(routes);
}

/// The content of a member event that gives a reason.
fn with_reason(reason: Option<String>) -> CanonicalJsonObject {
    let reason = reason.map(|reason| ("reason".to_owned(), CanonicalJsonValue::String(reason)));
    reason.into_iter().collect()
}
