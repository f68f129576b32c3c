//! What clients ask before they register: `GET /_matrix/client/v3/register/available` and
//! `GET /_matrix/client/v1/register/m.login.registration_token/validity`

use millpond_node::{Error, accounts::Accounts};
use ruma::api::client::account::{check_registration_token_validity, get_username_availability};

use crate::glue::{Args, Routes};

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(available);
    routes.add(validity);
}

async fn available(
    accounts: Accounts,
    args: Args<get_username_availability::v3::Request>,
) -> Result<get_username_availability::v3::Response, Error> {
    accounts.available(&args.request.username)?;
    Ok(get_username_availability::v3::Response::new(true))
}

async fn validity(
    accounts: Accounts,
    args: Args<check_registration_token_validity::v1::Request>,
) -> Result<check_registration_token_validity::v1::Response, Error> {
    let valid = accounts.registration_token_validity(&args.request.token, args.address)?;
    Ok(check_registration_token_validity::v1::Response::new(valid))
}
