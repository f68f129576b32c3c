//! `POST /_matrix/client/v3/account/deactivate`

use millpond_node::{Error, accounts::Accounts};
use ruma::api::client::account::{
    ThirdPartyIdRemovalStatus,
    deactivate::v3::{Request, Response},
};

use crate::glue::Args;

pub(crate) async fn handler(accounts: Accounts, args: Args<Request>) -> Result<Response, Error> {
    let asked = args.asked();
    let Args { request, sender, .. } = args;
    let user_id = match sender {
        Some(sender) => {
            accounts.confirm(&sender, request.auth.as_ref(), asked).await?;
            sender.user_id
        }
        None => accounts.identify(request.auth.as_ref(), asked).await?,
    };
    let unbound = accounts.unbind_all(&user_id).await?;
    accounts.deactivate(&user_id, request.erase).await?;
    Ok(Response::new(match unbound {
        true => ThirdPartyIdRemovalStatus::Success,
        false => ThirdPartyIdRemovalStatus::NoSupport,
    }))
}
