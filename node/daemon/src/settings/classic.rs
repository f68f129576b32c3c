//! The settings of classic federation, which go together: a name needs a door, a door needs a name, and TLS needs both its
//! files.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use anyhow::Context;
use millpond_node::config::{Acme, Classic, ServerName};

use super::Settings;

/// Where the TLS door is, and the files of its certificate and key.
pub(crate) type TlsDoor = (SocketAddr, Option<(PathBuf, PathBuf)>);

/// Where classic servers come in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Doors {
    /// With TLS: where, and the files of certificate and key; without them they come by ACME.
    pub(crate) tls: Option<TlsDoor>,
    /// Where the ACME server looks, if it is elsewhere.
    pub(crate) acme: Option<SocketAddr>,
    /// Behind a reverse proxy.
    pub(crate) proxied: Option<SocketAddr>,
}

impl Settings {
    /// The name with what belongs to it, and the doors.
    pub(super) fn classic(&self) -> anyhow::Result<(Option<Classic>, Doors)> {
        let doors = Doors { tls: self.tls()?, acme: self.acme_listen, proxied: self.classic_proxied };
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
        if let Some(seconds) = self.classic_retry {
            anyhow::ensure!(
                (1..=86_400).contains(&seconds),
                "classic-retry = {seconds}: allowed is 1 to 86400 seconds"
            );
            classic.longest_wait = Duration::from_secs(seconds);
        }
        classic.overlay_by_default = self.overlay_rooms.unwrap_or(false);
        classic.acme = self.acme(&classic)?;
        Ok((Some(classic), doors))
    }

    fn tls(&self) -> anyhow::Result<Option<TlsDoor>> {
        let by_acme = self.acme.unwrap_or(false);
        let listen = self.classic_listen.unwrap_or_else(|| (Ipv4Addr::UNSPECIFIED, 8448).into());
        match (self.tls_certificate.clone(), self.tls_key.clone()) {
            (None, None) if by_acme => Ok(Some((listen, None))),
            (Some(_), Some(_)) if by_acme => {
                anyhow::bail!("acme brings a certificate: leave tls-certificate and tls-key out")
            }
            (Some(certificate), Some(key)) => Ok(Some((listen, Some((certificate, key))))),
            (None, None) if self.classic_listen.is_none() => Ok(None),
            (None, None) => anyhow::bail!("classic-listen needs tls-certificate and tls-key, or acme"),
            _ => anyhow::bail!("tls-certificate and tls-key go together"),
        }
    }

    /// Certificates by ACME, which the owner asks for by name: it tells a public log that the name exists.
    fn acme(&self, classic: &Classic) -> anyhow::Result<Option<Acme>> {
        if !self.acme.unwrap_or(false) {
            let others = self.acme_directory.is_some() || self.acme_contact.is_some() || self.acme_listen.is_some();
            anyhow::ensure!(!others, "acme-directory, acme-contact and acme-listen go with acme = true");
            return Ok(None);
        }
        let name = match &classic.delegate {
            Some(delegate) => server_name("classic-delegate", delegate)?.host().to_owned(),
            None => classic.server_name.host().to_owned(),
        };
        let is_address = name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
        anyhow::ensure!(!is_address, "acme needs a name, and {name} is an address");
        let directory = self.acme_directory.clone().unwrap_or_else(|| LETS_ENCRYPT.to_owned());
        anyhow::ensure!(directory.starts_with("https://"), "acme-directory = {directory:?}: allowed is an https URL");
        Ok(Some(Acme { directory, contact: self.acme_contact.clone(), name }))
    }
}

/// Whose terms are at <https://letsencrypt.org/repository>.
const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

fn server_name(setting: &str, name: &str) -> anyhow::Result<ServerName> {
    ServerName::try_from(name).with_context(|| format!("{setting} = {name:?} is not a server name"))
}
