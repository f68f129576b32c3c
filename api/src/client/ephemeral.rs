//! What is said about a room beside its events: receipts, read markers, typing.

mod read_markers;
mod receipt;
mod typing;

use crate::glue::Routes;

/// Registers the endpoints.
pub(crate) fn routes(routes: &mut Routes) {
    routes.add(read_markers::handler);
    routes.add(receipt::handler);
    routes.add(typing::handler);
}
