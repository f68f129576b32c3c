//! Linked nodes as the way to the keys of other servers.

use std::collections::BTreeMap;

use futures::{FutureExt, future::BoxFuture};
use ruma::{
    OwnedDeviceId, OwnedUserId, ServerName,
    api::federation::{device::get_devices, keys::claim_keys, keys::get_keys},
};

use super::{Audience, Claimed, Claims, RemoteKeys};
use crate::{
    Error,
    links::LinkClass,
    peers::{PATIENCE, Peers},
};

impl RemoteKeys for Peers {
    fn devices(&self, user: OwnedUserId) -> BoxFuture<'static, Result<get_devices::v1::Response, Error>> {
        let peers = self.clone();
        let server = user.server_name().to_owned();
        async move { Ok(peers.ask(&server, get_devices::v1::Request::new(user), PATIENCE).await?) }.boxed()
    }

    fn query(
        &self,
        server: &ServerName,
        users: BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>,
    ) -> BoxFuture<'static, Result<get_keys::v1::Response, Error>> {
        let (peers, server) = (self.clone(), server.to_owned());
        async move { Ok(peers.ask(&server, get_keys::v1::Request::new(users), PATIENCE).await?) }.boxed()
    }

    fn claim(&self, server: &ServerName, claims: Claims) -> BoxFuture<'static, Result<Claimed, Error>> {
        let (peers, server) = (self.clone(), server.to_owned());
        async move {
            let response = peers.ask(&server, claim_keys::v1::Request::new(claims), PATIENCE).await?;
            Ok(response.one_time_keys)
        }
        .boxed()
    }

    fn is_up(&self, server: &ServerName) -> bool {
        self.is_connected(server)
    }

    fn audience(&self, server: &ServerName) -> Audience {
        match self.class_of(server) {
            Some(LinkClass::Contact) => Audience::Contact,
            _ => Audience::CoMembers,
        }
    }
}
