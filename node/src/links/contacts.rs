//! Contacts, as the user makes, confirms, sees and removes them.

use millpond_mailbox::{contact_link::ContactLink, name::NodeName, way::Way};
use millpond_overlay::{LinkClass, LinkInfo, LinkState, MailInfo};
use millpond_store::View;
use ruma::OwnedServerName;

use super::{Links, overlay_error};
use crate::Error;

/// One contact, for the user.
#[derive(Clone, Debug)]
pub struct Contact {
    /// The node's name, as soon as it has shown itself.
    pub name: Option<NodeName>,
    /// The name in the DNS that it says it has, and whether that is proven.
    pub server: Option<(bool, OwnedServerName)>,
    /// How far the link is.
    pub state: LinkState,
    /// How it came about.
    pub class: LinkClass,
    /// The route of the open stream, if one is open.
    pub route: Option<&'static str>,
    /// How it stands over mailboxes.
    pub mail: Option<MailInfo>,
    /// It could be dialled only by showing this node's IP address, which is not to be.
    pub hidden: bool,
}

/// A link for a friend, and what he will see.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The text of the link.
    pub link: String,
    /// The addresses in it.
    pub addresses: Vec<String>,
}

impl Links {
    /// Makes a contact link with this device's present addresses.
    ///
    /// # Errors
    /// When nothing can listen or too many offers are open.
    pub async fn offer(&self) -> Result<Offer, Error> {
        let overlay = self.overlay().await?;
        let link = overlay.offer().await.map_err(overlay_error)?;
        let addresses = overlay.addresses().await.map_err(overlay_error)?.iter().map(ToString::to_string).collect();
        Ok(Offer { link: link.to_uri(), addresses })
    }

    /// Adds the contact of a pasted link; gives the fingerprint of the node behind it.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` for a text that is no link or has expired.
    pub async fn add(&self, link: &str) -> Result<String, Error> {
        let link =
            ContactLink::parse(link.trim()).map_err(|e| Error::invalid_param(format!("not a contact link: {e}")))?;
        let overlay = self.overlay().await?;
        let routes = self.core.routes();
        let reachable = |way: &Way| match way {
            Way::Direct(_) => routes.shows_address(),
            Way::Onion(_) => routes.tor().is_some(),
            _ => false,
        };
        let direct = link.ways().iter().any(reachable);
        let by_mail = !overlay.mailboxes().await.map_err(overlay_error)?.is_empty();
        if !direct && !by_mail && !routes.shows_address() && link.ways().iter().any(|way| matches!(way, Way::Direct(_)))
        {
            return Err(Error::unknown(
                "this contact is reached at IP addresses only, and this node uses Tor and shows none of its own: make a \
                 mailbox each (`millpond mailbox add`), or allow direct links (direct = true under [tor])",
            ));
        }
        if !direct && !by_mail {
            let message =
                "this contact is reached by mailboxes only: make one of your own first (`millpond mailbox add`)";
            return Err(Error::unknown(message));
        }
        // With mailboxes on both sides, or an onion service at the other, nothing need listen.
        if !by_mail && routes.shows_address() {
            overlay.listen().await.map_err(overlay_error)?;
        }
        overlay.accept(&link).await.map_err(overlay_error)?;
        Ok(data_encoding::HEXLOWER.encode(&link.fingerprint().0))
    }

    /// The user has compared the name of the node that answered, and says yes.
    ///
    /// # Errors
    /// When no such node waits.
    pub async fn confirm(&self, name: &str) -> Result<(), Error> {
        self.overlay().await?.confirm(&self.node_named(name)?).await.map_err(overlay_error)
    }

    /// Ends the link with a node.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) async fn remove(&self, node: &NodeName) -> Result<(), Error> {
        self.overlay().await?.remove(node).await.map_err(overlay_error)
    }

    /// All contacts and open offers.
    ///
    /// # Errors
    /// As [`Links::overlay`].
    pub async fn contacts(&self) -> Result<Vec<Contact>, Error> {
        if self.running().is_none() && !self.any()? {
            return Ok(Vec::new());
        }
        let links = self.overlay().await?.links();
        let snapshot = self.core.snapshot()?;
        links.into_iter().map(|link| contact(snapshot.view(), link)).collect()
    }
}

fn contact(view: View<'_>, link: LinkInfo) -> Result<Contact, Error> {
    let by_key = link.peer.as_ref().and_then(|peer| OwnedServerName::try_from(peer.as_str()).ok());
    let named = by_key.map(|key| view.get(millpond_store::tables::NAMED_NODES, &*key)).transpose()?.flatten();
    let server = named.map(|named| (named.is_proven(), named.server_name));
    Ok(Contact {
        name: link.peer,
        server,
        state: link.state,
        class: link.class,
        route: link.route,
        mail: link.mail,
        hidden: link.hidden,
    })
}
