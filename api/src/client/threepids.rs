//! `/_matrix/client/v3/account/3pid`, and tokens for e-mail addresses and phone numbers: accounts here have no third-party
//! identifiers, and get none.

use http::{Method, StatusCode};
use millpond_node::Error;
use ruma::api::{
    auth_scheme::AccessToken,
    client::account::{
        ThirdPartyIdRemovalStatus, add_3pid, bind_3pid, delete_3pid, get_3pids,
        request_3pid_management_token_via_email as via_email, request_3pid_management_token_via_msisdn as via_msisdn,
        request_password_change_token_via_email as password_via_email,
        request_password_change_token_via_msisdn as password_via_msisdn,
        request_registration_token_via_email as registration_via_email,
        request_registration_token_via_msisdn as registration_via_msisdn, unbind_3pid,
    },
    error::ErrorKind,
};

use crate::glue::{Args, Http, Plain, Routes};

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(list);
    routes.add(add);
    routes.add(bind);
    routes.add(token_via_email);
    routes.add(token_via_msisdn);
    routes.add(delete);
    routes.add(unbind);
    let paths = ["/_matrix/client/v3/account/3pid", "/_matrix/client/r0/account/3pid"];
    routes.add_at(Method::POST, &paths, add_the_old_way);
    routes.add(password_by_email);
    routes.add(password_by_msisdn);
    routes.add(registration_by_email);
    routes.add(registration_by_msisdn);
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

async fn add_the_old_way(_: Plain<AccessToken>) -> Result<Http, Error> {
    Err(denied())
}

async fn password_by_email(
    _: Args<password_via_email::v3::Request>,
) -> Result<password_via_email::v3::Response, Error> {
    Err(denied())
}

async fn password_by_msisdn(
    _: Args<password_via_msisdn::v3::Request>,
) -> Result<password_via_msisdn::v3::Response, Error> {
    Err(denied())
}

async fn registration_by_email(
    _: Args<registration_via_email::v3::Request>,
) -> Result<registration_via_email::v3::Response, Error> {
    Err(denied())
}

async fn registration_by_msisdn(
    _: Args<registration_via_msisdn::v3::Request>,
) -> Result<registration_via_msisdn::v3::Response, Error> {
    Err(denied())
}

fn denied() -> Error {
    let message = "This homeserver keeps no e-mail addresses or phone numbers";
    Error::matrix(StatusCode::FORBIDDEN, ErrorKind::ThreepidDenied, message)
}
