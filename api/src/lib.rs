//! HTTP: turns client-server, server-server and `/_millpond` requests into calls on `millpond-node`.
//!
//! [`App`] answers requests, [`serve`] brings them in from listeners. An endpoint is one file with one `handler`,
//! written with [`glue`].

mod app;
mod classic;
mod client;
mod cors;
mod federation;
pub mod glue;
mod hosts;
mod millpond;
mod oauth;
mod serve;

pub use crate::{
    app::App,
    serve::{CertificateError, Certificates, Error, Listener, serve},
};
