//! `/_matrix/client/v3/account/3pid`: accounts here have no third-party identifiers, and get none.

use http::StatusCode;
use millpond_node::Error;
use ruma::api::{
    client::account::{
        ThirdPartyIdRemovalStatus, add_3pid, bind_3pid, delete_3pid, get_3pids,
        request_3pid_management_token_via_email as via_email, request_3pid_management_token_via_msisdn as via_msisdn,
        unbind_3pid,
    },
    error::ErrorKind,
};

use crate::glue::{Args, Routes};

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(list);
    routes.add(add);
    routes.add(bind);
    routes.add(token_via_email);
    routes.add(token_via_msisdn);
    routes.add(delete);
    routes.add(unbind);
}

async fn list(_: Args<get_3pids::v3::Request>) -> Result<get_3pids::v3::Response, Error> {
    Ok(get_3pids::v3::Response::new(Vec::new()))
}

async fn add(_: Args<add_3pid::v3::Request>) -> Result<add_3pid::v3::Response, Error> {
    Err(denied())
}

async fn bind(_: Args<bind_3pid::v3::Request>) -> Result<bind_3pid::v3::Response, Error> {
    Err(denied())
}

async fn token_via_email(_: Args<via_email::v3::Request>) -> Result<via_email::v3::Response, Error> {
    Err(denied())
}

async fn token_via_msisdn(_: Args<via_msisdn::v3::Request>) -> Result<via_msisdn::v3::Response, Error> {
    Err(denied())
}

async fn delete(_: Args<delete_3pid::v3::Request>) -> Result<delete_3pid::v3::Response, Error> {
    // There is none, so it is gone as asked.
    Ok(delete_3pid::v3::Response::new(ThirdPartyIdRemovalStatus::Success))
}

async fn unbind(_: Args<unbind_3pid::v3::Request>) -> Result<unbind_3pid::v3::Response, Error> {
    Ok(unbind_3pid::v3::Response::new(ThirdPartyIdRemovalStatus::NoSupport))
}

fn denied() -> Error {
    let message = "This homeserver keeps no e-mail addresses or phone numbers";
    Error::matrix(StatusCode::FORBIDDEN, ErrorKind::ThreepidDenied, message)
}
