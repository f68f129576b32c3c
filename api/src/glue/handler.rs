//! Handlers: async functions of services and arguments.

use axum::{body::Body, response::Response};
use http::Request;
use millpond_node::{Error, NodeHandle};

use super::{answer::Answer, args::Arguments};

/// A service that a handler may ask for.
pub trait Service: Clone + Send {
    /// The node's one.
    fn of(node: &NodeHandle) -> Self;
}

macro_rules! services {
    ($($field:ident: $service:ty),* $(,)?) => {$(
        impl Service for $service {
            fn of(node: &NodeHandle) -> Self { node.$field.clone() }
        }
    )*};
}
// One line per service of `NodeHandle`.
services! {
    core: millpond_node::Core,
    accounts: millpond_node::accounts::Accounts,
    backups: millpond_node::backup::Backups,
    delayed: millpond_node::delayed::Delayed,
    directory: millpond_node::directory::Directory,
    keys: millpond_node::keys::Keys,
    memberships: millpond_node::memberships::Memberships,
    peers: millpond_node::peers::Peers,
    to_device: millpond_node::to_device::ToDevice,
    rooms: millpond_node::rooms::Rooms,
    federation: millpond_node::federation::Federation,
    search: millpond_node::search::Search,
    sync: millpond_node::sync::Sync,
    timeline: millpond_node::timeline::Timeline,
    account_data: millpond_node::account_data::AccountData,
    filters: millpond_node::filters::Filters,
    media: millpond_node::media::Media,
    presence: millpond_node::presence::Presence,
    previews: millpond_node::previews::Previews,
    profiles: millpond_node::profile::Profiles,
    notifications: millpond_node::notifications::Notifications,
    openid: millpond_node::openid::OpenId,
    pushers: millpond_node::pushers::Pushers,
    push_rules: millpond_node::push_rules::PushRules,
    receipts: millpond_node::receipts::Receipts,
    typing: millpond_node::typing::Typing,
    limits: millpond_node::limits::Limits,
    reports: millpond_node::reports::Reports,
    legacy: millpond_node::legacy::Legacy,
    spaces: millpond_node::spaces::Spaces,
    user_directory: millpond_node::user_directory::UserDirectory,
}

/// An async function of up to three services and its arguments. `M` only tells the shapes apart.
pub trait Handler<M>: Clone + Send + Sync + 'static {
    /// Its arguments.
    type Args: Arguments;

    /// Reads the arguments and runs the function.
    fn handle(&self, node: NodeHandle, request: Request<Body>) -> impl Future<Output = Result<Response, Error>> + Send;
}

macro_rules! handler {
    ($($s:ident),*) => {
        impl<F, Fut, O, A, $($s),*> Handler<(O, A, $($s),*)> for F
        where
            F: Fn($($s,)* A) -> Fut + Clone + Send + Sync + 'static,
            Fut: Future<Output = Result<O, Error>> + Send,
            O: Answer,
            A: Arguments,
            $($s: Service,)*
        {
            type Args = A;
            async fn handle(&self, node: NodeHandle, request: Request<Body>) -> Result<Response, Error> {
                let args = A::read(&node, request).await?;
                self($($s::of(&node),)* args).await?.into_http()
            }
        }
    };
}
handler!();
handler!(S1);
handler!(S1, S2);
handler!(S1, S2, S3);
