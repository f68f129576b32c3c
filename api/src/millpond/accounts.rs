//! Accounts, for the node's owner.

use axum::{body::Body, extract::State, response::Response};
use http::Request;
use millpond_node::{
    Error, NodeHandle,
    accounts::{LogOut, Mark, NewAccount, NewDevice},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{answer, read};

#[derive(Deserialize)]
struct Create {
    name: String,
    password: String,
    #[serde(default)]
    admin: bool,
}

#[derive(Deserialize)]
struct Password {
    name: String,
    password: String,
}

#[derive(Deserialize)]
struct Deactivate {
    name: String,
    #[serde(default)]
    erase: bool,
}

#[derive(Deserialize)]
struct Name {
    name: String,
}

pub(super) async fn list(State(node): State<NodeHandle>) -> Response {
    let accounts = node.accounts.list().map(|accounts| {
        let shown: Vec<Value> = accounts
            .into_iter()
            .map(|a| {
                json!({
                    "user_id": a.user_id, "created_at_ms": a.created_at_ms, "admin": a.admin,
                    "deactivated": a.deactivated, "devices": a.devices,
                    "locked": a.marks.locked, "suspended": a.marks.suspended,
                })
            })
            .collect();
        json!({ "accounts": shown })
    });
    answer(accounts)
}

pub(super) async fn create(State(node): State<NodeHandle>, request: Request<Body>) -> Response {
    let create = async {
        let body: Create = read(request).await?;
        // A whole user id names the local part too, if it is one of ours.
        let name = match body.name.strip_prefix('@').and_then(|rest| rest.split_once(':')) {
            Some((name, server)) if server == node.core.identity().server_name().as_str() => name.to_owned(),
            Some(_) => return Err(Error::invalid_param("that user id is of another server")),
            None => body.name,
        };
        let account = NewAccount { name, password: Some(body.password), admin: body.admin };
        let (user_id, _) = node.accounts.create(account, None).await?;
        Ok(json!({ "user_id": user_id }))
    };
    answer(create.await)
}

pub(super) async fn password(State(node): State<NodeHandle>, request: Request<Body>) -> Response {
    let set = async {
        let body: Password = read(request).await?;
        let user_id = node.accounts.find(&body.name)?;
        node.accounts.set_password(&user_id, body.password, LogOut::AllBut(None)).await?;
        Ok(json!({ "user_id": user_id }))
    };
    answer(set.await)
}

pub(super) async fn deactivate(State(node): State<NodeHandle>, request: Request<Body>) -> Response {
    let deactivate = async {
        let body: Deactivate = read(request).await?;
        let user_id = node.accounts.find(&body.name)?;
        node.accounts.deactivate(&user_id, body.erase).await?;
        Ok(json!({ "user_id": user_id }))
    };
    answer(deactivate.await)
}

#[derive(Deserialize)]
struct Marking {
    name: String,
    locked: Option<bool>,
    suspended: Option<bool>,
    admin: Option<bool>,
}

pub(super) async fn mark(State(node): State<NodeHandle>, request: Request<Body>) -> Response {
    let mark = async {
        let body: Marking = read(request).await?;
        let user_id = node.accounts.find(&body.name)?;
        for (mark, on) in [(Mark::Locked, body.locked), (Mark::Suspended, body.suspended)] {
            if let Some(on) = on {
                node.accounts.mark_as_owner(&user_id, mark, on).await?;
            }
        }
        if let Some(admin) = body.admin {
            node.accounts.set_admin(&user_id, admin).await?;
        }
        Ok(json!({ "user_id": user_id }))
    };
    answer(mark.await)
}

pub(super) async fn token(State(node): State<NodeHandle>, request: Request<Body>) -> Response {
    let token = async {
        let body: Name = read(request).await?;
        let user_id = node.accounts.find(&body.name)?;
        let device = NewDevice { display_name: Some("millpond account token".to_owned()), ..NewDevice::default() };
        let session = node.accounts.open_session(&user_id, device).await?;
        Ok(json!({
            "user_id": user_id, "device_id": session.device_id, "access_token": session.access_token,
        }))
    };
    answer(token.await)
}
