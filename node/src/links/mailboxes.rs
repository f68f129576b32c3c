//! Mailboxes at hosts, what is offered to those of others, and the host beside this node.

use millpond_mailbox::{host_key::HostKey, host_link::HostLink, session::Offered, token::Grant};
use millpond_overlay::{LinkState, LodgingInfo, MailInfo, MailboxInfo, relay::Relay};
use ruma::ServerName;

use super::{Links, overlay_error};
use crate::Error;

impl Links {
    /// Hosts mailboxes beside the node, on the same port. Takes effect when the overlay starts; the host ends with the links.
    pub fn host(&self, relay: Relay) {
        // A node has one host; the first one stays.
        let _ = self.shared.host.set(relay);
    }

    /// The link of the host beside this node, if there is one, with the addresses at which it listens now.
    ///
    /// # Errors
    /// As [`Links::overlay`], and when nothing can listen.
    pub async fn host_link(&self) -> Result<Option<String>, Error> {
        let Some(host) = self.shared.host.get().filter(|_| self.may_listen()) else { return Ok(None) };
        let addresses = self.overlay().await?.listen().await.map_err(overlay_error)?;
        let link = host.link(&addresses).map_err(|e| Error::unknown(format!("the mailbox host has no link: {e}")))?;
        Ok(Some(link.to_uri()))
    }

    /// How the link with a server stands over mailboxes.
    pub fn mail_of(&self, server: &ServerName) -> Option<MailInfo> {
        self.info(server).filter(|link| link.state == LinkState::Established).and_then(|link| link.mail)
    }

    /// Offers items to a server's mailboxes; they are offered again after the next start.
    pub(crate) async fn post(&self, server: &ServerName, items: Vec<Offered>) {
        let (Some(overlay), Some(name)) = (self.running(), self.node_of(server)) else { return };
        // It fails only when the overlay has stopped, and with it everything else.
        let _ = overlay.post(&name, items).await;
    }

    /// Makes a mailbox at a host.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` for a link or a token that is none; with the reason when the host does not make one.
    pub async fn add_mailbox(&self, link: &str, token: &str) -> Result<(), Error> {
        let (link, leave) = parsed(link, token)?;
        self.overlay().await?.add_mailbox(link, leave).await.map_err(overlay_error)
    }

    /// Makes a mailbox at another host, and then takes those at `from` out of use.
    ///
    /// # Errors
    /// As [`Links::add_mailbox`], and 404 when there is none at `from`: all stays as it is.
    pub async fn move_mailbox(&self, from: &str, link: &str, token: &str) -> Result<(), Error> {
        let (link, leave) = parsed(link, token)?;
        let from = self.host_named(from).await?;
        self.overlay().await?.move_mailbox(from, link, leave).await.map_err(overlay_error)
    }

    /// Our mailboxes.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub async fn mailboxes(&self) -> Result<Vec<MailboxInfo>, Error> {
        if self.running().is_none() && !self.any()? {
            return Ok(Vec::new());
        }
        self.overlay().await?.mailboxes().await.map_err(overlay_error)
    }

    /// The hosts of contacts who offer to keep a mailbox there for this node.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub async fn lodgings(&self) -> Result<Vec<LodgingInfo>, Error> {
        if self.running().is_none() && !self.any()? {
            return Ok(Vec::new());
        }
        self.overlay().await?.lodgings().await.map_err(overlay_error)
    }

    /// Makes a mailbox at the host of a contact, who has offered it.
    ///
    /// # Errors
    /// When he has not, or the host does not make one.
    pub async fn lodge(&self, with: &str) -> Result<(), Error> {
        let node = self.node_named(with)?;
        self.overlay().await?.lodge(&node).await.map_err(overlay_error)
    }

    /// Takes the mailboxes at a host out of use; `host` is the beginning of its key in hex, as they are listed.
    ///
    /// # Errors
    /// 404 when there is none.
    pub async fn leave_host(&self, host: &str) -> Result<(), Error> {
        let host = self.host_named(host).await?;
        self.overlay().await?.leave_host(host).await.map_err(overlay_error)
    }

    async fn host_named(&self, host: &str) -> Result<HostKey, Error> {
        let wanted = host.trim().to_lowercase();
        if wanted.len() < 4 {
            return Err(Error::invalid_param(
                "a host is named by four or more characters of its name: `millpond mailbox list`",
            ));
        }
        let named = |mailbox: &MailboxInfo| host_name(&mailbox.host).starts_with(&wanted);
        let mut found: Vec<_> = self.mailboxes().await?.into_iter().filter(named).map(|mailbox| mailbox.host).collect();
        found.sort_unstable();
        found.dedup();
        match found[..] {
            [host] => Ok(host),
            [] => Err(Error::not_found("no mailbox of this node is at a host of that name: `millpond mailbox list`")),
            _ => Err(Error::not_found("more than one host's name begins so: write more of it")),
        }
    }
}

fn parsed(link: &str, token: &str) -> Result<(HostLink, Grant), Error> {
    let link = HostLink::parse(link).map_err(|e| Error::invalid_param(e.to_string()))?;
    let leave = Grant::parse(token.trim()).map_err(|e| Error::invalid_param(e.to_string()))?;
    Ok((link, leave))
}

/// A host's key in hex, as it is shown.
pub fn host_name(host: &HostKey) -> String {
    data_encoding::HEXLOWER.encode(host.as_bytes())
}
