//! What comes out of mailboxes: each item was staged in the commit that acknowledges it, and is worked off here, in order
//! and one at a time for each peer, through the one federation router. What is cut off is done again: transactions and
//! to-device messages are taken once by their ids, and questions have no second effect.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use data_encoding::BASE32_NOPAD;
use futures::{StreamExt, stream};
use http::{Method, Request, Response, StatusCode, header};
use millpond_mailbox::{
    item::{self, Item},
    name::NodeName,
};
use millpond_overlay::{Arrival, LinkClass};
use millpond_store::{
    Topic, View, WriteTxn, job,
    rows::{MailIn, MailResponse, OutboxItem},
    tables,
};
use ruma::{OwnedServerName, ServerName};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::{
    Core, Error,
    federation::INTRO_PATH,
    links::Links,
    outbox::Outbox,
    peers::{self, Peers, take_answer},
};

/// The mail of this node. Cloning is cheap.
#[derive(Clone)]
pub struct Mail {
    core: Core,
    links: Links,
    peers: Peers,
    outbox: Outbox,
}

/// Items that are looked at in one go, and those of one peer.
const BATCH: usize = 256;
const OF_ONE: usize = 64;
/// Items of a peer that are put behind others in one go: each is a commit.
const MAX_BEHIND: usize = 16;
/// Peers whose items are worked off at once.
const AT_ONCE: usize = 4;
/// When what could not be done is tried again: nobody else would say that there is room now.
const RETRY: Duration = Duration::from_secs(5);
/// The largest answer that travels over mailboxes.
const MAX_ANSWER: usize = 1 << 20;
/// Answers for one peer that wait to be fetched; beyond that its questions wait.
const MAX_ANSWERS: usize = 64;

/// Items kept of a peer that has no row yet, or no proven name.
const MAX_OF_UNKNOWN: usize = 1_000;

/// What is next.
#[derive(Default)]
struct Items {
    /// By their peers.
    peers: BTreeMap<OwnedServerName, Vec<(u64, MailIn)>>,
    /// Others wait for their peers to be known.
    waiting: bool,
    /// More than is kept of such peers.
    beyond: Vec<(u64, MailIn)>,
}

/// What became of an item.
enum Done {
    /// Its row goes; an answer is owed in the same commit.
    With(Option<MailResponse>),
    /// It is tried again.
    Later,
    /// It is tried again behind what else there is.
    Behind,
}

impl Mail {
    /// The service over links; refused invites are taken back by the outbox.
    pub fn new(core: Core, links: Links, peers: Peers, outbox: Outbox) -> Self {
        Self { core, links, peers, outbox }
    }

    /// Works off what comes, until told to stop.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn work(&self, stop: CancellationToken) -> Result<(), Error> {
        self.links.backlog().load(self.core.store())?;
        loop {
            let changed = self.core.notifier().register([Topic::Mail]);
            let Some(left) = stop.run_until_cancelled(self.work_off()).await else { return Ok(()) };
            let left = left?;
            let wait = async {
                match left {
                    true => drop(tokio::time::timeout(RETRY, changed.changed()).await),
                    false => changed.changed().await,
                }
            };
            if stop.run_until_cancelled(wait).await.is_none() {
                return Ok(());
            }
        }
    }

    /// Works off what is there; says whether anything is left for later.
    async fn work_off(&self) -> Result<bool, Error> {
        loop {
            let Items { peers, waiting, beyond } = self.next_items()?;
            if !beyond.is_empty() {
                self.drop_items(beyond).await?;
            }
            if peers.is_empty() {
                return Ok(waiting);
            }
            let worked = stream::iter(peers.into_values()).map(|items| self.of_peer(items)).buffer_unordered(AT_ONCE);
            let done = worked.collect::<Vec<Result<bool, Error>>>().await;
            // Those who wait hold up nobody else.
            let (mut left, mut any) = (false, false);
            for done in done {
                match done? {
                    true => any = true,
                    false => left = true,
                }
            }
            if left && !any {
                return Ok(true);
            }
        }
    }

    /// The next items by their peers, and whether others wait. The frame that establishes a link may bring the first items:
    /// they wait until the peer's row is there, and for a node of the DNS until its name is proven.
    fn next_items(&self) -> Result<Items, Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let mut items = Items::default();
        // How many items wait of each peer that is not known yet.
        let mut unknown: BTreeMap<OwnedServerName, Option<usize>> = BTreeMap::new();
        let mut taken = 0;
        for row in view.scan(tables::MAIL_IN, ())? {
            let (position, item) = row?;
            if !unknown.contains_key(&item.peer) {
                let known = is_known(view, &item.peer)?;
                unknown.insert(item.peer.clone(), (!known).then_some(0));
            }
            if let Some(Some(waiting)) = unknown.get_mut(&item.peer) {
                *waiting += 1;
                items.waiting = true;
                if *waiting > MAX_OF_UNKNOWN {
                    items.beyond.push((position, item));
                }
                continue;
            }
            let of_peer = items.peers.entry(item.peer.clone()).or_default();
            if of_peer.len() == OF_ONE {
                continue;
            }
            of_peer.push((position, item));
            taken += 1;
            if taken == BATCH {
                break;
            }
        }
        Ok(items)
    }

    async fn drop_items(&self, beyond: Vec<(u64, MailIn)>) -> Result<(), Error> {
        tracing::warn!("a peer whose name is not proven sends more than is kept of it");
        let (positions, items): (Vec<u64>, Vec<MailIn>) = beyond.into_iter().unzip();
        let write = job(
            |_| Ok::<_, Error>(()),
            move |(), txn| positions.iter().try_for_each(|at| txn.remove(tables::MAIL_IN, *at).map(drop)),
        );
        self.core.write(write).await?;
        self.links.backlog().worked_off(&items);
        Ok(())
    }

    /// The items of one peer, in order; says whether all could be done.
    async fn of_peer(&self, items: Vec<(u64, MailIn)>) -> Result<bool, Error> {
        let mut behind = 0;
        for (position, item) in items {
            match self.take(&item).await? {
                Done::With(answer) => self.forget(position, item, answer).await?,
                Done::Later => return Ok(false),
                Done::Behind => {
                    self.put_behind(position, item).await?;
                    behind += 1;
                    if behind == MAX_BEHIND {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(behind == 0)
    }

    async fn put_behind(&self, position: u64, item: MailIn) -> Result<(), Error> {
        let write = job(
            |_| Ok::<_, Error>(()),
            move |(), txn| {
                txn.remove(tables::MAIL_IN, position)?;
                let at = txn.next_position().0;
                txn.put(tables::MAIL_IN, at, &item)
            },
        );
        self.core.write(write).await?;
        Ok(())
    }

    async fn forget(&self, position: u64, item: MailIn, answer: Option<MailResponse>) -> Result<(), Error> {
        let peer = item.peer.clone();
        let write = job(
            |_| Ok::<_, Error>(()),
            move |(), txn| {
                txn.remove(tables::MAIL_IN, position)?;
                let peer = server_of(txn.view(), &peer)?;
                if let (Some(answer), Some(peer)) = (&answer, peer) {
                    let at = txn.next_position().0;
                    txn.put(tables::OUTBOX, (&*peer, at), &OutboxItem::Response(answer.clone()))?;
                    txn.touch(Topic::Outbox(peer.clone()));
                }
                Ok(())
            },
        );
        self.core.write(write).await?;
        self.links.backlog().worked_off(&[item]);
        Ok(())
    }

    async fn take(&self, mail: &MailIn) -> Result<Done, Error> {
        let Ok(item) = Item::parse(mail.kind, mail.body.clone()) else { return Ok(Done::With(None)) };
        match item {
            Item::Transaction { via, body } => self.transaction(mail, &body, &via).await,
            Item::ToDevice { body, .. } => {
                let body = [b"{\"edus\":[".as_slice(), &body, b"]}"].concat();
                self.transaction(mail, &body, &[]).await
            }
            Item::Request(request) => self.request(mail, request).await,
            Item::Introduction(body) => {
                let Ok(asked) = Request::post(INTRO_PATH).body(Bytes::from(body)) else { return Ok(Done::With(None)) };
                Ok(self.answer(mail, asked).await.map_or(Done::Later, |_| Done::With(None)))
            }
            Item::Response(answer) => self.response(mail, answer).await,
            _ => Ok(Done::With(None)),
        }
    }

    /// What a peer says to a question or an invite of ours; to what was not asked nobody listens.
    async fn response(&self, mail: &MailIn, answer: item::Response) -> Result<Done, Error> {
        let Some(server) = server_of(self.core.snapshot()?.view(), &mail.peer)? else { return Ok(Done::Later) };
        self.outbox.invite_answered(&server, answer.id, (answer.status, &answer.body)).await?;
        let (teller, now_ms) = (server.clone(), self.core.clock().now_ms());
        let write = move |(), txn: &mut WriteTxn<'_>| take_answer(txn, &server, &answer, now_ms);
        let (target, _) = self.core.write(job(|_| Ok::<_, Error>(()), write)).await?;
        if let Some(target) = target {
            self.peers.tell(teller, target);
        }
        Ok(Done::With(None))
    }

    async fn request(&self, mail: &MailIn, request: item::Request) -> Result<Done, Error> {
        let Some(server) = server_of(self.core.snapshot()?.view(), &mail.peer)? else { return Ok(Done::Later) };
        // Nobody waits for the answer any more.
        let expired = request.deadline.0 < self.core.clock().now_ms();
        let behind = if expired { Done::With(None) } else { Done::Behind };
        if !self.has_room(&server)? {
            return Ok(behind);
        }
        // Who may ask depends on what he said before: his join stands in front of his question.
        if self.core.snapshot()?.view().get(tables::INBOX_WAITING, &*server)?.is_some_and(|waiting| waiting > 0) {
            return Ok(Done::Later);
        }
        let asked = Request::builder().method(request.method.as_str()).uri(request.target.as_str());
        let asked = asked.header(header::CONTENT_TYPE, "application/json").body(Bytes::from(request.body));
        let Ok(asked) = asked else { return Ok(Done::With(None)) };
        let Some(answer) = self.answer(mail, asked).await else { return Ok(Done::Later) };
        // We are in trouble. That others are, or a file is not there yet, is an answer.
        if matches!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR | StatusCode::SERVICE_UNAVAILABLE) {
            return Ok(Done::Later);
        }
        // More than we take of this kind within an hour; other things need not wait for it.
        if answer.status().as_u16() == 429 {
            return Ok(behind);
        }
        Ok(Done::With((!expired).then(|| response(request.id, &answer))))
    }

    /// Whether a peer has taken enough of the answers that it asked for.
    fn has_room(&self, peer: &ServerName) -> Result<bool, Error> {
        let snapshot = self.core.snapshot()?;
        let mut waiting = 0;
        for row in snapshot.view().scan(tables::OUTBOX, (peer,))? {
            waiting += usize::from(matches!(row?.1, OutboxItem::Response(_)));
        }
        Ok(waiting < MAX_ANSWERS)
    }

    /// The same as over a stream: the id names the content, so that a repetition is known.
    async fn transaction(&self, mail: &MailIn, body: &[u8], via: &[NodeName]) -> Result<Done, Error> {
        let Ok(mut fields) = serde_json::from_slice::<BTreeMap<String, Box<RawValue>>>(body) else {
            return Ok(Done::With(None));
        };
        let failed = |e: serde_json::Error| Error::internal(format!("a transaction does not serialise: {e}"));
        let raw = |value: &serde_json::Value| serde_json::value::to_raw_value(value).map_err(failed);
        let Some(origin) = server_of(self.core.snapshot()?.view(), &mail.peer)? else { return Ok(Done::Later) };
        fields.insert("origin".to_owned(), raw(&origin.as_str().into())?);
        fields.insert("origin_server_ts".to_owned(), raw(&self.core.clock().now_ms().into())?);
        fields.entry("pdus".to_owned()).or_insert(raw(&serde_json::json!([]))?);
        let via = self.servers(via)?;
        fields.insert("org.millpond.via".to_owned(), raw(&serde_json::json!([via]))?);
        let id = BASE32_NOPAD.encode(&Sha256::digest(body)[..20]).to_lowercase();
        let asked = Request::builder()
            .method(Method::PUT)
            .uri(format!("/_matrix/federation/v1/send/m{id}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Bytes::from(serde_json::to_vec(&fields).map_err(failed)?));
        let Ok(asked) = asked else { return Ok(Done::With(None)) };
        match self.answer(mail, asked).await {
            // Too much of this peer waits to be judged, or we are in trouble ourselves.
            Some(answer) if answer.status().as_u16() == 429 || answer.status().is_server_error() => Ok(Done::Later),
            Some(_) => Ok(Done::With(None)),
            None => Ok(Done::Later),
        }
    }

    /// The servers of these nodes; those that are not known by name may get an event twice, which is harmless.
    fn servers(&self, nodes: &[NodeName]) -> Result<Vec<OwnedServerName>, Error> {
        let snapshot = self.core.snapshot()?;
        let servers = nodes.iter().map(|node| peers::server_of(snapshot.view(), node));
        Ok(servers.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    /// What the one router says; none while nobody is there to answer.
    async fn answer(&self, mail: &MailIn, request: Request<Bytes>) -> Option<Response<Bytes>> {
        let peer = NodeName::parse(mail.peer.as_str()).ok()?;
        let class = if mail.contact { LinkClass::Contact } else { LinkClass::Room };
        let (reply, answered) = oneshot::channel();
        self.links.arrived(Arrival::Request { peer, class, request, reply }).await?;
        answered.await.ok()
    }
}

/// The server that the peer of an item speaks for. Items name it as the link does.
fn server_of(view: View<'_>, peer: &ServerName) -> Result<Option<OwnedServerName>, millpond_store::Error> {
    NodeName::parse(peer.as_str()).map_or(Ok(None), |node| peers::server_of(view, &node))
}

/// Whether a peer has its row, so that its keys are known.
fn is_known(view: View<'_>, peer: &ServerName) -> Result<bool, millpond_store::Error> {
    let Some(server) = server_of(view, peer)? else { return Ok(false) };
    let row = view.get(tables::PEERS, &*server)?;
    Ok(row.is_some_and(|peer| peer.linked || peer.linked_since > 0))
}

fn response(id: u64, answer: &Response<Bytes>) -> MailResponse {
    let content_type = answer.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or("application/json").to_owned();
    if answer.body().len() > MAX_ANSWER {
        return MailResponse { id, status: 413, content_type, body: Vec::new() };
    }
    MailResponse { id, status: answer.status().as_u16(), content_type, body: answer.body().to_vec() }
}

#[cfg(test)]
mod tests;
