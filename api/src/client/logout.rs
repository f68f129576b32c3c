//! `POST /_matrix/client/v3/logout` and `/logout/all`

use millpond_node::{Error, accounts::Accounts};
use ruma::api::client::session::{logout, logout_all};

use crate::glue::{Args, Routes};

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(one);
    routes.add(all);
}

async fn one(accounts: Accounts, args: Args<logout::v3::Request>) -> Result<logout::v3::Response, Error> {
    accounts.log_out(&args.sender).await?;
    Ok(logout::v3::Response::new())
}

async fn all(accounts: Accounts, args: Args<logout_all::v3::Request>) -> Result<logout_all::v3::Response, Error> {
    accounts.log_out_everywhere(&args.sender.user_id).await?;
    Ok(logout_all::v3::Response::new())
}
