//! `POST /_matrix/client/v3/register`

use http::StatusCode;
use millpond_node::{
    Error,
    accounts::{Accounts, NewAccount, NewDevice},
};
use ruma::api::{
    client::account::register::{
        RegistrationKind,
        v3::{Request, Response},
    },
    error::ErrorKind,
};

use crate::glue::Args;

pub(crate) async fn handler(accounts: Accounts, args: Args<Request>) -> Result<Response, Error> {
    if args.request.kind == RegistrationKind::Guest {
        let message = "This homeserver has no guest accounts";
        return Err(Error::matrix(StatusCode::FORBIDDEN, ErrorKind::GuestAccessForbidden, message));
    }
    if args.request.login_type.is_some() {
        return Err(Error::forbidden("This homeserver has no application services"));
    }
    if let Some(name) = &args.request.username {
        accounts.available(name)?;
    }
    // Without `auth` the client asks for the flows and may not have asked its user for a password yet.
    let without_password = args.request.password.as_ref().is_none_or(String::is_empty);
    if args.request.auth.is_some() && without_password {
        let message = "An account needs a password: send `password`";
        return Err(Error::matrix(StatusCode::BAD_REQUEST, ErrorKind::MissingParam, message));
    }
    let address_of_user = accounts.confirm_registration(args.request.auth.as_ref(), args.asked()).await?;

    let Args { request, address, .. } = args;
    let device = NewDevice {
        device_id: request.device_id,
        display_name: request.initial_device_display_name,
        address,
        refreshed: request.refresh_token,
        client: None,
    };
    let name = request.username.unwrap_or_else(Accounts::random_name);
    let account = NewAccount { name, password: request.password, admin: false };
    let device = (!request.inhibit_login).then_some(device);
    let (user_id, session) = accounts.create_with(account, device, address_of_user).await?;
    let mut response = Response::new(user_id);
    if let Some(session) = session {
        response.access_token = Some(session.access_token);
        response.device_id = Some(session.device_id);
        response.refresh_token = session.refresh_token;
        response.expires_in = session.expires_in;
    }
    Ok(response)
}
