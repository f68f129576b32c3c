//! The one place where axum meets ruma. A handler is
//!
//! ```ignore
//! pub(crate) async fn handler(rooms: Rooms, args: Args<send_message_event::v3::Request>)
//!     -> Result<send_message_event::v3::Response, Error>
//! ```
//!
//! with zero to three services of the node, then [`Args`]; it is registered with `routes.add(send::handler)` under every
//! path that ruma knows for the request. What ruma has no type for takes [`Plain`] and goes in with `routes.add_at`. Authentication follows from the request type: `args.sender` is a
//! [`Sender`](millpond_node::accounts::Sender), an `Option` of one, an [`Origin`](millpond_node::federation::Origin), or
//! `()`. It may return prebuilt JSON or a stream with [`Http`], take the body as a stream with [`Upload`], and answer with
//! a part of a file with [`Ranged`].

mod answer;
mod args;
mod auth;
mod body;
mod failure;
mod handler;
mod lenient;
mod part;
mod plain;
mod routes;

pub use self::{
    answer::{Answer, Http},
    args::{Args, Arguments, Routed, Upload},
    auth::{ClientAddr, Scheme},
    failure::error_response,
    handler::{Handler, Service},
    part::{Part, Ranged},
    plain::Plain,
    routes::Routes,
};

/// The body limit of most endpoints, in bytes. An event has at most 65,536; key uploads and backups have the most.
pub const JSON_LIMIT: usize = 4 << 20;
