//! Key documents of other servers. Those of key-named servers: a document proves itself by the name of its server, so any member may carry it and no
//! notary is asked; the highest generation wins, and an equal one with other content is an alarm (overlay.md section 1).

use std::collections::BTreeMap;

use bytes::Bytes;
use millpond_mailbox::{
    key_document::{KeyDocument, Verdict},
    name::NodeName,
};
use millpond_matrix::signing::PublicKeySet;
use millpond_store::{View, job, tables};
use ruma::{OwnedServerName, ServerName, serde::Base64};
use tokio::time::Instant;

use super::{PATIENCE, Peers, names::key_name, node_of};
use crate::{
    Error,
    classic::{KeyRing, Needed, is_of_the_dns},
};

impl Peers {
    /// The keys of these servers, as far as they can be had: from our rows, from the servers themselves, or from `carrier`,
    /// who showed us something signed with them. Those of classic servers come from themselves.
    ///
    /// # Errors
    /// Storage errors.
    pub(crate) async fn keys(
        &self,
        servers: BTreeMap<OwnedServerName, Needed>,
        carrier: &ServerName,
    ) -> Result<KeyRing, Error> {
        let ours = |server: &ServerName| self.core.identity().is_ours(server);
        let (dns, by_key): (Vec<_>, Vec<_>) =
            servers.into_iter().partition(|(server, _)| is_of_the_dns(server) && !ours(server));
        // Whose name is proven shows its keys in the document that its identity signs, as a key-named server does.
        let mut named = KeyRing::default();
        let mut unnamed = Vec::new();
        for (server, needed) in dns {
            let keys = self.document(&server)?.map(|document| key_set(&document)).unwrap_or_default();
            let has_all = !needed.ids.is_empty() && needed.ids.iter().all(|id| keys.contains_key(id));
            if !keys.is_empty() {
                named.add_lasting(&server, keys);
            }
            if !has_all {
                unnamed.push((server, needed));
            }
        }
        let mut ring = self.classic.keys(unnamed).await?;
        ring.merge(named);
        // A carrier that invents servers, and is slow to say who they are, holds up nobody for longer than this.
        let mut asking = PATIENCE;
        for (server, _) in by_key {
            let begun = Instant::now();
            if let Some(found) = self.keys_of(&server, carrier, !asking.is_zero()).await? {
                ring.add_lasting(&server, found);
            }
            asking = asking.saturating_sub(begun.elapsed());
        }
        Ok(ring)
    }

    async fn keys_of(
        &self,
        server: &ServerName,
        carrier: &ServerName,
        may_ask: bool,
    ) -> Result<Option<PublicKeySet>, Error> {
        if self.core.identity().is_ours(server) {
            return Ok(Some(key_set(self.core.identity().key_document())));
        }
        if let Some(document) = self.document(server)? {
            return Ok(Some(key_set(&document)));
        }
        for from in [server, carrier] {
            if may_ask && self.is_linked(from)? && self.fetch_document(server, from).await? {
                break;
            }
        }
        Ok(self.document(server)?.map(|document| key_set(&document)))
    }

    /// The document of a server, as we hold it.
    ///
    /// # Errors
    /// Storage errors.
    pub fn document(&self, server: &ServerName) -> Result<Option<KeyDocument>, Error> {
        let snapshot = self.core.snapshot()?;
        Ok(held(snapshot.view(), server)?)
    }

    /// Fetches a server's document from itself or from a carrier, whether or not we hold one.
    ///
    /// # Errors
    /// Storage errors; that nobody gave one is `false`.
    pub async fn fetch_document(&self, server: &ServerName, from: &ServerName) -> Result<bool, Error> {
        let path = if server == from {
            "/_matrix/key/v2/server".to_owned()
        } else {
            format!("/_matrix/key/v2/query/{server}")
        };
        let request = http::Request::get(path).body(Bytes::new()).map_err(|e| Error::internal(e.to_string()))?;
        let Ok(answer) = self.send_over_link(from, request, PATIENCE).await else { return Ok(false) };
        for candidate in candidates(answer.body()) {
            if self.take_document(server, &candidate).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Keeps a document if it proves itself to be of that server and is newer than ours.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn take_document(&self, server: &ServerName, bytes: &[u8]) -> Result<bool, Error> {
        let Some(name) = node_of(self.core.snapshot()?.view(), server)? else { return Ok(false) };
        let Ok(document) = KeyDocument::verify_for(&name, bytes) else { return Ok(false) };
        let Some(key) = key_name(&name) else { return Ok(false) };
        let view_key = key.clone();
        let offered = document.clone();
        let write = job(
            move |view| {
                let held = held_by_key(view, &view_key)?;
                Ok::<_, Error>(document.against(held.as_ref()))
            },
            move |verdict, txn| {
                match verdict {
                    Verdict::Alarm => tracing::error!(
                        "a peer has two key documents of one generation: somebody else holds its identity key"
                    ),
                    Verdict::Older => {}
                    _ => txn.put(tables::KEY_DOCUMENTS, &*key, &offered.as_bytes().to_vec())?,
                }
                Ok(!matches!(verdict, Verdict::Alarm))
            },
        );
        Ok(self.core.write(write).await?.0)
    }

    /// Takes over the document that a link's peer has shown.
    pub(super) async fn take_link_document(&self, node: &NodeName) -> Result<(), Error> {
        let (Some(overlay), Some(by_key)) = (self.links.running(), key_name(node)) else { return Ok(()) };
        if let Ok(document) = overlay.key_document(node).await {
            self.take_document(&by_key, document.as_bytes()).await?;
        }
        Ok(())
    }
}

/// The document of a server that is a node, as we hold it.
pub(crate) fn held(view: View<'_>, server: &ServerName) -> Result<Option<KeyDocument>, millpond_store::Error> {
    match node_of(view, server)?.as_ref().and_then(key_name) {
        Some(key) => held_by_key(view, &key),
        None => Ok(None),
    }
}

fn held_by_key(view: View<'_>, key: &ServerName) -> Result<Option<KeyDocument>, millpond_store::Error> {
    let Some(bytes) = view.get(tables::KEY_DOCUMENTS, key)? else { return Ok(None) };
    let corrupt = |why: String| millpond_store::Error::Corrupt { table: "KEY_DOCUMENTS", why };
    KeyDocument::verify(&bytes).map(Some).map_err(|e| corrupt(e.to_string()))
}

fn key_set(document: &KeyDocument) -> PublicKeySet {
    let current = document.verify_keys().iter().map(|(id, key)| (id, key.as_bytes()));
    let old = document.old_verify_keys().iter().map(|(id, old)| (id, old.key.as_bytes()));
    let keys: BTreeMap<_, _> =
        current.chain(old).map(|(id, key)| (id.as_str().to_owned(), Base64::new(key.to_vec()))).collect();
    keys.into_iter().collect()
}

/// `/server` answers with a document, `/query` with `server_keys`, a list of them.
fn candidates(body: &[u8]) -> Vec<Vec<u8>> {
    #[derive(serde::Deserialize)]
    struct Query<'a> {
        #[serde(borrow)]
        server_keys: Vec<&'a serde_json::value::RawValue>,
    }
    match serde_json::from_slice::<Query<'_>>(body) {
        Ok(query) => query.server_keys.iter().take(4).map(|raw| raw.get().as_bytes().to_vec()).collect(),
        Err(_) => vec![body.to_vec()],
    }
}
