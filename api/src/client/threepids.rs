//! `/_matrix/client/v3/account/3pid` and what belongs to it: e-mail addresses and phone numbers of accounts, through the identity
//! server that the owner has configured. Without one there are none: 403 `M_THREEPID_DENIED`.

mod tokens;

use http::{Method, StatusCode};
use millpond_node::{
    Error,
    accounts::{Accounts, Address},
    limits::{Kind, Limits},
};
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedClientSecret, OwnedSessionId, UInt,
    api::{
        auth_scheme::AccessToken,
        client::account::{ThirdPartyIdRemovalStatus, add_3pid, bind_3pid, delete_3pid, get_3pids, unbind_3pid},
        error::ErrorKind,
    },
    thirdparty::{ThirdPartyIdentifier, ThirdPartyIdentifierInit},
};
use serde::Deserialize;
use serde_json::json;

use crate::glue::{Args, Http, Plain, Routes};

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(list);
    routes.add(add);
    routes.add(bind);
    routes.add(delete);
    routes.add(unbind);
    let paths = ["/_matrix/client/v3/account/3pid", "/_matrix/client/r0/account/3pid"];
    routes.add_at(Method::POST, &paths, bind_the_old_way);
    tokens::routes(routes);
}

async fn list(accounts: Accounts, args: Args<get_3pids::v3::Request>) -> Result<get_3pids::v3::Response, Error> {
    let at = |ms: u64| MilliSecondsSinceUnixEpoch(UInt::new(ms).unwrap_or(UInt::MAX));
    let found = accounts.threepids(&args.sender.user_id)?.into_iter().map(|(address, row)| {
        ThirdPartyIdentifier::from(ThirdPartyIdentifierInit {
            medium: address.medium(),
            address: address.as_str().to_owned(),
            validated_at: at(row.validated_at_ms),
            added_at: at(row.added_at_ms.unwrap_or_default()),
        })
    });
    Ok(get_3pids::v3::Response::new(found.collect()))
}

async fn add(accounts: Accounts, args: Args<add_3pid::v3::Request>) -> Result<add_3pid::v3::Response, Error> {
    args.sender.active()?;
    accounts.may_have_threepids()?;
    let asked = args.asked();
    let Args { request, sender, .. } = args;
    accounts.confirm(&sender, request.auth.as_ref(), asked).await?;
    let validated = accounts.validated(&request.sid, &request.client_secret).await?;
    accounts.add_threepid(&sender.user_id, validated).await?;
    Ok(add_3pid::v3::Response::new())
}

async fn bind(accounts: Accounts, args: Args<bind_3pid::v3::Request>) -> Result<bind_3pid::v3::Response, Error> {
    args.sender.active()?;
    let Args { request, sender, .. } = args;
    let server = &request.identity_server_info;
    let session = (&*request.sid, &*request.client_secret);
    accounts.bind_threepid(&sender.user_id, (&server.id_server, &server.id_access_token), session).await?;
    Ok(bind_3pid::v3::Response::new())
}

/// The body of the deprecated endpoint, which does what `/3pid/bind` does.
#[derive(Deserialize)]
struct OldBind {
    #[serde(alias = "threePidCreds")]
    three_pid_creds: Credentials,
}

#[derive(Deserialize)]
struct Credentials {
    client_secret: OwnedClientSecret,
    id_server: String,
    id_access_token: String,
    sid: OwnedSessionId,
}

async fn bind_the_old_way(accounts: Accounts, limits: Limits, plain: Plain<AccessToken>) -> Result<Http, Error> {
    plain.sender.active()?;
    limits.take(Kind::Action, Some((&plain.sender.user_id, &plain.sender.device_id)), None)?;
    accounts.may_have_threepids()?;
    let OldBind { three_pid_creds: it } = plain.body()?;
    let bound = accounts
        .bind_threepid(&plain.sender.user_id, (&it.id_server, &it.id_access_token), (&it.sid, &it.client_secret))
        .await;
    bound.map_err(|error| match error.kind().map(|kind| kind.errcode().to_string()).as_deref() {
        Some("M_SESSION_NOT_VALIDATED" | "M_SESSION_EXPIRED" | "M_NO_VALID_SESSION") => {
            Error::matrix(StatusCode::FORBIDDEN, ErrorKind::ThreepidAuthFailed, error.to_string())
        }
        _ => error,
    })?;
    Http::of(&json!({}))
}

async fn delete(accounts: Accounts, args: Args<delete_3pid::v3::Request>) -> Result<delete_3pid::v3::Response, Error> {
    let Args { request, sender, .. } = args;
    let address = Address::parse(&request.medium, &request.address)?;
    // It goes from the account whatever the identity server says.
    let unbound = match accounts.unbind_threepid(&sender.user_id, &address, request.id_server.as_deref()).await {
        Ok(unbound) => unbound,
        Err(Error::Store(error)) => return Err(error.into()),
        Err(_) => false,
    };
    accounts.remove_threepid(&sender.user_id, &address).await?;
    Ok(delete_3pid::v3::Response::new(status(unbound)))
}

async fn unbind(accounts: Accounts, args: Args<unbind_3pid::v3::Request>) -> Result<unbind_3pid::v3::Response, Error> {
    let Args { request, sender, .. } = args;
    let address = Address::parse(&request.medium, &request.address)?;
    let unbound = accounts.unbind_threepid(&sender.user_id, &address, request.id_server.as_deref()).await?;
    Ok(unbind_3pid::v3::Response::new(status(unbound)))
}

fn status(unbound: bool) -> ThirdPartyIdRemovalStatus {
    match unbound {
        true => ThirdPartyIdRemovalStatus::Success,
        false => ThirdPartyIdRemovalStatus::NoSupport,
    }
}
