//! Nodes with a name in the DNS. A link knows its peer by its identity key; users, rooms and rows know it by its server
//! name. For a key-named node the one is the other; a node of the DNS says its name in its key document, and is believed when
//! the key document that HTTPS brings from that name shows the same identity: at linking, and then weekly (overlay.md
//! section 1). Until then it has no name, its requests are put off, and nothing is owed to it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use millpond_mailbox::{key_document::prove_named, name::NodeName};
use millpond_overlay::LinkState;
use millpond_store::{Error as StoreError, View, WriteTxn, job, rows::NamedNode, tables};
use ruma::{OwnedServerName, ServerName};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Peers;
use crate::{Error, classic::is_of_the_dns};

/// A proven name is looked for again after this time.
const PROOF_HOLDS_MS: u64 = 7 * DAY_MS;
/// A name that cannot be looked for is believed for so long: its server may sleep.
const PROOF_ENDS_MS: u64 = 30 * DAY_MS;
const DAY_MS: u64 = 24 * 3600 * 1000;
/// After a look in vain: this, doubled each time up to [`BACK_OFF_MAX_MS`].
const BACK_OFF_MS: u64 = 30_000;
const BACK_OFF_MAX_MS: u64 = 6 * 3600 * 1000;
/// Names that are looked for at once.
const AT_ONCE: usize = 4;
/// The clock is looked at at least so often: a device that was suspended has missed its time.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// Wakes who looks for names.
#[derive(Clone, Default)]
pub(super) struct Looking(Arc<Notify>);

/// What HTTPS said about a name.
enum Found {
    /// The node is there.
    Proven(String),
    /// The server at that name is another one.
    Refuted,
    /// Nobody answered with a key document.
    Nothing,
}

/// The node that is linked under a server name, whatever it is made of.
pub(crate) fn node_of(view: View<'_>, server: &ServerName) -> Result<Option<NodeName>, StoreError> {
    if let Ok(name) = NodeName::parse(server.as_str()) {
        return Ok(Some(name));
    }
    let node = view.get(tables::NODE_NAMES, server)?;
    Ok(node.and_then(|node| NodeName::parse(node.as_str()).ok()))
}

/// The server that a node speaks for; none while it claims a name that is not proven.
pub(crate) fn server_of(view: View<'_>, node: &NodeName) -> Result<Option<OwnedServerName>, StoreError> {
    let Some(by_key) = key_name(node) else { return Ok(None) };
    Ok(match view.get(tables::NAMED_NODES, &*by_key)? {
        Some(named) => named.is_proven().then_some(named.server_name),
        None => Some(by_key),
    })
}

/// The name that a node's key makes, as a server name.
pub(super) fn key_name(node: &NodeName) -> Option<OwnedServerName> {
    OwnedServerName::try_from(node.as_str()).ok()
}

/// Writes that a node has proven its name. A name that another node holds stays with that one: `false`.
pub(crate) fn note_proof(
    txn: &mut WriteTxn<'_>,
    node: &NodeName,
    server: &ServerName,
    now_ms: u64,
) -> Result<bool, StoreError> {
    let Some(by_key) = key_name(node) else { return Ok(false) };
    let holder = txn.view().get(tables::NODE_NAMES, server)?;
    if holder.is_some_and(|holder| holder != by_key) {
        return Ok(false);
    }
    let before = txn.view().get(tables::NAMED_NODES, &*by_key)?;
    if before.is_some_and(|before| before.server_name != server) {
        return Ok(false);
    }
    let (at, failures) = (now_ms.max(1), 0);
    let row = NamedNode { server_name: server.to_owned(), proven_at_ms: at, tried_at_ms: at, failures };
    txn.put(tables::NAMED_NODES, &*by_key, &row)?;
    txn.put(tables::NODE_NAMES, server, &by_key)?;
    Ok(true)
}

impl Peers {
    /// The server that the peer of a link speaks for; none while it claims a name that is not proven yet: its requests are
    /// put off.
    ///
    /// # Errors
    /// Storage errors. Dropping the future is safe.
    pub async fn sender(&self, node: &NodeName) -> Result<Option<OwnedServerName>, Error> {
        let Some(by_key) = key_name(node) else { return Ok(None) };
        {
            let snapshot = self.core.snapshot()?;
            let view = snapshot.view();
            if view.contains(tables::NAMED_NODES, &*by_key)? || view.contains(tables::PEERS, &*by_key)? {
                return Ok(server_of(view, node)?);
            }
        }
        // The link is younger than our rows of it.
        self.known_by_link(node).await?;
        Ok(server_of(self.core.snapshot()?.view(), node)?)
    }

    /// Notes the name that a link's peer says it has, if it does.
    pub(super) async fn known_by_link(&self, node: &NodeName) -> Result<(), Error> {
        let Some(overlay) = self.links.running() else { return Ok(()) };
        let Ok(document) = overlay.key_document(node).await else { return Ok(()) };
        let (Some(claimed), Some(by_key)) = (document.claimed_name(), key_name(node)) else { return Ok(()) };
        let Ok(server) = OwnedServerName::try_from(claimed) else { return Ok(()) };
        if !is_of_the_dns(&server) || self.core.identity().is_ours(&server) {
            return Ok(());
        }
        let view_key = by_key.clone();
        let claim = job(
            // A node that came without a name has the one that its key makes, for ever.
            move |view: View<'_>| {
                Ok::<_, Error>(
                    !view.contains(tables::NAMED_NODES, &*view_key)? && !view.contains(tables::PEERS, &*view_key)?,
                )
            },
            move |is_new: bool, txn| match is_new {
                true => txn.put(tables::NAMED_NODES, &*by_key, &NamedNode::claimed(server.clone())),
                false => Ok(()),
            },
        );
        self.core.write(claim).await?;
        self.looking.0.notify_one();
        Ok(())
    }

    /// The server of a link that has just been made; none while its name is still to be looked for.
    pub(super) fn name_at_linking(&self, node: &NodeName) -> Result<Option<OwnedServerName>, Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let row = key_name(node).map(|key| view.get(tables::NAMED_NODES, &*key)).transpose()?.flatten();
        if row.is_some_and(|row| due_at_ms(&row) <= self.core.clock().now_ms()) {
            self.looking.0.notify_one();
            return Ok(None);
        }
        Ok(server_of(view, node)?)
    }

    /// A peer is there: if it is time to look for its name, now is a good moment.
    pub(super) fn look_again(&self, node: &NodeName) -> Result<(), Error> {
        let snapshot = self.core.snapshot()?;
        let row = key_name(node).map(|key| snapshot.view().get(tables::NAMED_NODES, &*key)).transpose()?.flatten();
        if row.is_some_and(|row| due_at_ms(&row) <= self.core.clock().now_ms()) {
            self.looking.0.notify_one();
        }
        Ok(())
    }

    /// Looks for the names of linked nodes when it is time, until told to stop.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn prove_names(&self, stop: CancellationToken) -> Result<(), Error> {
        let looking = async {
            loop {
                let wait = self.prove_due_names().await?;
                // Either is enough: a new claim, or the time.
                let _ = tokio::time::timeout(wait, self.looking.0.notified()).await;
            }
        };
        stop.run_until_cancelled(looking).await.unwrap_or(Ok(()))
    }

    /// Looks for all names whose time has come; says when the next one's comes.
    async fn prove_due_names(&self) -> Result<Duration, Error> {
        let now_ms = self.core.clock().now_ms();
        let (mut due, mut wait) = (Vec::new(), LONGEST_WAIT);
        for (node, row) in self.linked_claims()? {
            match due_at_ms(&row).saturating_sub(now_ms) {
                0 => due.push((node, row)),
                later => wait = wait.min(Duration::from_millis(later)),
            }
        }
        let begun = Instant::now();
        let looked = stream::iter(due).map(|(node, row)| self.prove(node, row)).buffer_unordered(AT_ONCE);
        for done in looked.collect::<Vec<Result<u64, Error>>>().await {
            wait = wait.min(Duration::from_millis(done?));
        }
        Ok(wait.saturating_sub(begun.elapsed()).max(Duration::from_secs(1)))
    }

    /// The nodes with an established link that have a name of their own.
    fn linked_claims(&self) -> Result<Vec<(NodeName, NamedNode)>, Error> {
        let Some(overlay) = self.links.running() else { return Ok(Vec::new()) };
        let snapshot = self.core.snapshot()?;
        let established = overlay.links().into_iter().filter(|link| link.state == LinkState::Established);
        let mut claims = Vec::new();
        for node in established.filter_map(|link| link.peer) {
            let Some(by_key) = key_name(&node) else { continue };
            if let Some(row) = snapshot.view().get(tables::NAMED_NODES, &*by_key)? {
                claims.push((node, row));
            }
        }
        Ok(claims)
    }

    /// Looks for one name; says after how many milliseconds it is to be looked for again.
    async fn prove(&self, node: NodeName, row: NamedNode) -> Result<u64, Error> {
        let now_ms = self.core.clock().now_ms();
        let found = match self.classic.fetch_document(&row.server_name).await {
            None => Found::Nothing,
            Some(document) => match prove_named(row.server_name.as_str(), document.as_bytes()) {
                Ok(found) if found == node => Found::Proven(document),
                _ if self.classic.is_document_of(&row.server_name, &document) => Found::Refuted,
                _ => Found::Nothing,
            },
        };
        let (server, was_proven) = (row.server_name.clone(), row.is_proven());
        let holds = match found {
            Found::Proven(document) => {
                self.classic.keep_document(&server, &document).await?;
                self.note_proven(&node, &server, now_ms).await?
            }
            Found::Refuted => false,
            Found::Nothing => was_proven && now_ms < row.proven_at_ms.saturating_add(PROOF_ENDS_MS),
        };
        let row = self.note_look(&node, holds, now_ms).await?;
        match (was_proven, holds) {
            (_, true) => self.linked_as(&node, server).await?,
            (true, false) => {
                tracing::warn!("a contact no longer speaks for its name in the DNS: see `millpond contact list`");
                self.set_linked(server, false).await?;
            }
            (false, false) => tracing::debug!("a contact's name in the DNS is not proven yet"),
        }
        Ok(row.map_or(BACK_OFF_MAX_MS, |row| due_at_ms(&row).saturating_sub(now_ms)))
    }

    async fn note_proven(&self, node: &NodeName, server: &ServerName, now_ms: u64) -> Result<bool, Error> {
        let (node, server) = (node.clone(), server.to_owned());
        let write = job(|_| Ok::<_, Error>(()), move |(), txn| note_proof(txn, &node, &server, now_ms));
        let taken = self.core.write(write).await?.0;
        if !taken {
            tracing::warn!("two nodes say they have one name in the DNS: the first one keeps it");
        }
        Ok(taken)
    }

    /// Writes how a look ended.
    async fn note_look(&self, node: &NodeName, holds: bool, now_ms: u64) -> Result<Option<NamedNode>, Error> {
        let Some(key) = key_name(node) else { return Ok(None) };
        let view_key = key.clone();
        let write = job(
            move |view: View<'_>| Ok::<_, Error>(view.get(tables::NAMED_NODES, &*view_key)?),
            move |row: Option<NamedNode>, txn| {
                let Some(mut row) = row else { return Ok(None) };
                let proven_now = holds && row.proven_at_ms == now_ms.max(1);
                row.tried_at_ms = now_ms.max(1);
                row.failures = if proven_now { 0 } else { row.failures.saturating_add(1) };
                if !holds && row.is_proven() {
                    row.proven_at_ms = 0;
                    txn.remove(tables::NODE_NAMES, &*row.server_name)?;
                }
                txn.put(tables::NAMED_NODES, &*key, &row)?;
                Ok(Some(row))
            },
        );
        Ok(self.core.write(write).await?.0)
    }
}

/// When a name is to be looked for.
fn due_at_ms(row: &NamedNode) -> u64 {
    if row.failures > 0 {
        let wait = BACK_OFF_MS.saturating_mul(1 << (row.failures - 1).min(20)).min(BACK_OFF_MAX_MS);
        return row.tried_at_ms.saturating_add(wait);
    }
    if row.is_proven() { row.proven_at_ms.saturating_add(PROOF_HOLDS_MS) } else { 0 }
}

#[cfg(test)]
mod tests {
    use ruma::owned_server_name;

    use super::*;

    #[test]
    fn a_name_is_looked_for_at_once_then_weekly_and_after_failures_later_and_later() {
        let mut row = NamedNode::claimed(owned_server_name!("pond.example"));
        assert_eq!(due_at_ms(&row), 0);
        (row.tried_at_ms, row.failures) = (1_000, 1);
        assert_eq!(due_at_ms(&row), 31_000);
        row.failures = 30;
        assert_eq!(due_at_ms(&row), 1_000 + BACK_OFF_MAX_MS);
        (row.proven_at_ms, row.failures) = (5, 0);
        assert_eq!(due_at_ms(&row), 5 + 7 * DAY_MS);
    }
}
