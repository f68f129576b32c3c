//! The settings of classic federation, which go together: a name needs a door, a door needs a name, and TLS needs both its
//! files.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use anyhow::Context;
use millpond_node::config::{Classic, ServerName};

use super::Settings;

/// Where classic servers come in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Doors {
    /// With TLS: where, the certificate, its key.
    pub(crate) tls: Option<(SocketAddr, PathBuf, PathBuf)>,
    /// Behind a reverse proxy.
    pub(crate) proxied: Option<SocketAddr>,
}

impl Settings {
    /// The name with what belongs to it, and the doors.
    pub(super) fn classic(&self) -> anyhow::Result<(Option<Classic>, Doors)> {
        let doors = Doors { tls: self.tls()?, proxied: self.classic_proxied };
        let has_door = doors.tls.is_some() || doors.proxied.is_some();
        let Some(name) = &self.server_name else {
            anyhow::ensure!(
                !has_door,
                "classic federation needs server-name: the name under which other servers find this node, chosen before \
                 its first run"
            );
            return Ok((None, doors));
        };
        anyhow::ensure!(
            has_door,
            "server-name needs a way in for other servers: tls-certificate and tls-key (and classic-listen), or \
             classic-proxied behind a reverse proxy"
        );
        let mut classic = Classic::new(server_name("server-name", name)?);
        if let Some(delegate) = &self.classic_delegate {
            server_name("classic-delegate", delegate)?;
        }
        classic.delegate.clone_from(&self.classic_delegate);
        let notaries = self.classic_notaries.iter().flatten();
        classic.notaries = notaries.map(|name| server_name("classic-notaries", name)).collect::<Result<_, _>>()?;
        classic.overlay_by_default = self.overlay_rooms.unwrap_or(false);
        Ok((Some(classic), doors))
    }

    fn tls(&self) -> anyhow::Result<Option<(SocketAddr, PathBuf, PathBuf)>> {
        match (self.tls_certificate.clone(), self.tls_key.clone()) {
            (Some(certificate), Some(key)) => {
                let listen = self.classic_listen.unwrap_or_else(|| (Ipv4Addr::UNSPECIFIED, 8448).into());
                Ok(Some((listen, certificate, key)))
            }
            (None, None) if self.classic_listen.is_none() => Ok(None),
            (None, None) => anyhow::bail!("classic-listen needs tls-certificate and tls-key"),
            _ => anyhow::bail!("tls-certificate and tls-key go together"),
        }
    }
}

fn server_name(setting: &str, name: &str) -> anyhow::Result<ServerName> {
    ServerName::try_from(name).with_context(|| format!("{setting} = {name:?} is not a server name"))
}
