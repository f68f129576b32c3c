//! `POST /_matrix/client/v3/account/password`

use millpond_node::{
    Error,
    accounts::{Accounts, LogOut},
};
use ruma::api::client::account::change_password::v3::{Request, Response};

use crate::glue::Args;

pub(crate) async fn handler(accounts: Accounts, args: Args<Request>) -> Result<Response, Error> {
    let asked = args.asked();
    let Args { request, sender, .. } = args;
    let user_id = match &sender {
        Some(sender) => {
            accounts.confirm(sender, request.auth.as_ref(), asked).await?;
            sender.user_id.clone()
        }
        None => accounts.identify_by_address(request.auth.as_ref(), asked).await?,
    };
    let log_out = match request.logout_devices {
        true => LogOut::AllBut(sender.map(|sender| sender.device_id)),
        false => LogOut::Nobody,
    };
    accounts.set_password(&user_id, request.new_password, log_out).await?;
    Ok(Response::new())
}
