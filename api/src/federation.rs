//! The server-server API: one file per endpoint, or per family that shares its checks. Only linked nodes reach it; clients
//! see no more of it than our key document and our version.

mod documents;
mod e2ee;
mod events;
mod frontiers;
mod history;
mod introductions;
mod invite;
mod joins;
mod knocks;
mod leaves;
mod media;
mod openid;
mod policy;
mod public_rooms;
mod queries;
mod send;
mod spaces;
mod third_party;
mod version;
mod well_known;

use crate::glue::Routes;

/// Registers every endpoint for linked nodes.
pub(crate) fn routes(routes: &mut Routes) {
    public_routes(routes);
    documents::routes(routes);
    e2ee::routes(routes);
    events::routes(routes);
    history::routes(routes);
    routes.merge(frontiers::router());
    routes.merge(introductions::router());
    invite::routes(routes);
    joins::routes(routes);
    knocks::routes(routes);
    leaves::routes(routes);
    media::routes(routes);
    public_rooms::routes(routes);
    queries::routes(routes);
    routes.add(send::handler);
    spaces::routes(routes);
    routes.add(third_party::handler);
    routes.add(third_party::on_bind);
    routes.add(policy::handler);
}

/// Registers what anybody may know.
pub(crate) fn public_routes(routes: &mut Routes) {
    routes.add(documents::own);
    routes.add(openid::handler);
    routes.add(version::handler);
    routes.add(well_known::handler);
}
