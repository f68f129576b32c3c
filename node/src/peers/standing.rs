//! Questions that stand until they are answered: to a peer that is away they travel over mailboxes as items with an id and a deadline
//! (overlay.md section 7). Who asks is told at once that the answer comes later, and asks the same again when it is there; the answer
//! is kept for that. So a question that is cut off anywhere is asked again, and nobody waits for a peer that sleeps.

use std::{
    collections::BTreeSet,
    sync::PoisonError,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response, header};
use millpond_mailbox::item;
use millpond_overlay::RouteError;
use millpond_store::{
    Error as StoreError, Topic, View, WriteTxn, job,
    rows::{MailAnswer, MailAsked, OutboxItem},
    tables,
};
use ruma::{OwnedRoomId, OwnedServerName, RoomId, ServerName};
use tokio::sync::{broadcast, watch};

use super::{PeerError, Peers};
use crate::Error;

/// The answer to a question that was asked over mailboxes is there.
#[derive(Clone, Debug)]
pub struct Answered {
    /// Who gave it.
    pub server: OwnedServerName,
    /// What was asked: path and query.
    pub target: String,
}

impl Answered {
    /// What it was about: the word behind the version in the path.
    pub fn kind(&self) -> &str {
        kind(&self.target)
    }

    /// The room that it was about.
    pub fn room(&self) -> Option<OwnedRoomId> {
        let part = self.target.strip_prefix(FEDERATION)?.split(['/', '?']).nth(1)?;
        RoomId::parse(unescaped(part)?).ok()
    }

    /// The events that it was about, where they stand in the query.
    fn events(&self) -> Vec<String> {
        let query = self.target.split_once('?').map_or("", |(_, query)| query).as_bytes();
        url::form_urlencoded::parse(query).filter(|(name, _)| name == "v").map(|(_, id)| id.into_owned()).collect()
    }
}

/// Where all these questions begin.
const FEDERATION: &str = "/_matrix/federation/v1/";
/// Questions to one peer that stand at once, and answers of it that are kept.
const MAX_STANDING: usize = 64;
const MAX_KEPT: usize = 256;
/// How long a peer that could not be reached is taken to sleep, by those who can wait.
const ASLEEP: Duration = Duration::from_secs(15);
/// Bytes of a question's body.
const MAX_QUESTION: usize = 64 << 10;
/// Bytes of an answer: what an item may have.
const MAX_ANSWER: usize = item::MAX_ITEM_LEN;
/// How long an answer is waited for; who still wants it then asks again.
const WANTED_FOR_MS: u64 = 7 * 86_400_000;
/// How long an answer that nobody has read yet is kept.
const KEPT_FOR_MS: u64 = 7 * 86_400_000;
/// How long one that was read stays: whoever read it may be cut off before it is done with it. Events and states stay longer: a step
/// of catching up may need several answers, which come one after the other.
const READ_FOR_MS: u64 = 10 * 60_000;
const EVENTS_READ_FOR_MS: u64 = 86_400_000;
/// How long "not now" stands before the same is asked again.
const REFUSED_FOR_MS: u64 = 10 * 60_000;

impl Peers {
    /// The answers to questions that were asked over mailboxes, from now on.
    pub fn answers(&self) -> broadcast::Receiver<Answered> {
        self.answers.subscribe()
    }

    /// Whether what a server is asked now would go over mailboxes.
    pub(crate) fn asks_by_mail(&self, server: &ServerName) -> bool {
        !self.is_connected(server) && self.mail_room(server).is_some()
    }

    /// Asks a linked server something that can wait: directly if it is there, else over its mailboxes.
    pub(super) async fn ask_or_post(
        &self,
        to: &ServerName,
        request: Request<Bytes>,
        patience: Duration,
    ) -> Result<Response<Bytes>, PeerError> {
        if self.mail_room(to).is_none() {
            return Ok(self.links.request(to, request, patience).await?);
        }
        let question = of(&request);
        if !self.is_connected(to)
            && let Some(answer) = self.kept_answer(to, &question).await.map_err(storage)?
        {
            return Ok(answer);
        }
        if self.wakes(to).await {
            match self.links.request(to, request, patience).await {
                Ok(answer) => {
                    self.withdraw(to, question).await.map_err(storage)?;
                    return Ok(answer);
                }
                Err(RouteError::NoLink) => return Err(RouteError::NoLink.into()),
                Err(error) => tracing::debug!(%error, "a peer left in the middle of a question"),
            }
        }
        self.stand(to, question).await.map_err(storage)?;
        Err(PeerError::Later)
    }

    /// This device was asleep and is not any more: nothing that was in vain before says anything now.
    pub(crate) fn wake(&self) {
        self.asleep.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.woken.send_modify(|times| *times += 1);
        self.say_hello();
    }

    /// Changes whenever this device wakes.
    pub(crate) fn woken(&self) -> watch::Receiver<u64> {
        self.woken.subscribe()
    }

    /// Whether a peer is there; one that was not a moment ago is not dialled again.
    async fn wakes(&self, to: &ServerName) -> bool {
        if self.is_connected(to) {
            return true;
        }
        let known = self.asleep.lock().unwrap_or_else(PoisonError::into_inner).get(to).copied();
        if known.is_some_and(|since| since.elapsed() < ASLEEP) {
            return false;
        }
        let awake = self.is_awake(to).await;
        let mut asleep = self.asleep.lock().unwrap_or_else(PoisonError::into_inner);
        asleep.retain(|_, since| since.elapsed() < ASLEEP);
        if !awake {
            asleep.insert(to.to_owned(), Instant::now());
        }
        awake
    }

    /// What the peer said to the same question, if it has been here.
    async fn kept_answer(&self, to: &ServerName, question: &MailAsked) -> Result<Option<Response<Bytes>>, Error> {
        let now_ms = self.core.clock().now_ms();
        let found = {
            let snapshot = self.core.snapshot()?;
            find(snapshot.view(), to, question)?
        };
        let Some((position, asked)) = found else { return Ok(None) };
        let Some(answer) = asked.answer.clone().filter(|answer| now_ms < answer.until_ms) else { return Ok(None) };
        let read_until = now_ms + if is_history(&asked.target) { EVENTS_READ_FOR_MS } else { READ_FOR_MS };
        if answer.status < 400 && answer.until_ms > read_until {
            let (to, kept) = (to.to_owned(), MailAnswer { until_ms: read_until, ..answer.clone() });
            let row = MailAsked { answer: Some(kept), ..asked };
            let write = job(|_| Ok::<_, Error>(()), move |(), txn| txn.put(tables::MAIL_ASKED, (&*to, position), &row));
            self.core.write(write).await?;
        }
        let response = Response::builder().status(answer.status).header(header::CONTENT_TYPE, answer.content_type);
        Ok(response.body(Bytes::from(answer.body)).ok())
    }

    /// Puts a question into the outbox, unless it stands already.
    async fn stand(&self, to: &ServerName, question: MailAsked) -> Result<(), Error> {
        if question.body.len() > MAX_QUESTION {
            return Ok(());
        }
        let (now_ms, server, view_server) = (self.core.clock().now_ms(), to.to_owned(), to.to_owned());
        let question = MailAsked { deadline_ms: now_ms + WANTED_FOR_MS, ..question };
        let wanted = question.clone();
        let decide = move |view: View<'_>| Ok::<_, Error>(place_for(view, &view_server, &wanted, now_ms)?);
        let write = move |over: Option<Vec<u64>>, txn: &mut WriteTxn<'_>| {
            let Some(over) = over else { return Ok(()) };
            over.into_iter().try_for_each(|position| forget(txn, &server, position))?;
            let position = txn.next_position().0;
            txn.put(tables::MAIL_ASKED, (&*server, position), &question)?;
            txn.put(tables::OUTBOX, (&*server, position), &OutboxItem::Question)?;
            txn.touch(Topic::Outbox(server.clone()));
            Ok(())
        };
        self.core.write(job(decide, write)).await?;
        Ok(())
    }

    /// From where history of a room was asked for that has come out of a mailbox, and waits for states that it stands on.
    pub(crate) fn history_before(&self, server: &ServerName, room: &RoomId) -> Result<Option<Vec<String>>, Error> {
        let snapshot = self.core.snapshot()?;
        for row in snapshot.view().scan(tables::MAIL_ASKED, (server,))? {
            let ((server, _), asked) = row?;
            let answered = Answered { server, target: asked.target };
            if asked.answer.is_some() && answered.kind() == "backfill" && answered.room().as_deref() == Some(room) {
                return Ok(Some(answered.events()));
            }
        }
        Ok(None)
    }

    /// The peer has answered in person.
    async fn withdraw(&self, to: &ServerName, question: MailAsked) -> Result<(), Error> {
        let found = {
            let snapshot = self.core.snapshot()?;
            find(snapshot.view(), to, &question)?
        };
        let Some((position, _)) = found else { return Ok(()) };
        let server = to.to_owned();
        self.core.write(job(|_| Ok::<_, Error>(()), move |(), txn| forget(txn, &server, position))).await?;
        Ok(())
    }

    /// Tells those who wait of every answer that is here: after a start nobody else does.
    ///
    /// # Errors
    /// Storage errors.
    pub(crate) fn tell_answers(&self) -> Result<(), Error> {
        let now_ms = self.core.clock().now_ms();
        let snapshot = self.core.snapshot()?;
        let mut told = BTreeSet::new();
        for row in snapshot.view().scan(tables::MAIL_ASKED, ())? {
            let ((server, _), asked) = row?;
            if asked.answer.is_some() && !is_over(&asked, now_ms) {
                told.insert((server, asked.target));
            }
        }
        told.into_iter().for_each(|(server, target)| self.tell(server, target));
        Ok(())
    }

    /// An answer is durable. Nobody may be listening: then the next start tells it.
    pub(crate) fn tell(&self, server: OwnedServerName, target: String) {
        let _ = self.answers.send(Answered { server, target });
    }
}

/// Whether a question is about events of a room.
fn is_history(target: &str) -> bool {
    matches!(kind(target), "backfill" | "get_missing_events" | "state" | "state_ids" | "event" | "event_auth")
}

fn kind(target: &str) -> &str {
    target.strip_prefix(FEDERATION).and_then(|rest| rest.split(['/', '?']).next()).unwrap_or_default()
}

/// A part of a path without its percent signs.
fn unescaped(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let (byte, behind) = match (*first, behind) {
            (b'%', [high, low, behind @ ..]) => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                (u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?, behind)
            }
            (byte, behind) => (byte, behind),
        };
        bytes.push(byte);
        rest = behind;
    }
    String::from_utf8(bytes).ok()
}

/// A question without its times. Ids of transactions and time-outs are no part of what is asked.
fn of(request: &Request<Bytes>) -> MailAsked {
    let uri = request.uri();
    let query = uri.query().map(|query| {
        let kept: Vec<&str> = query.split('&').filter(|part| !part.starts_with("timeout_ms=")).collect();
        kept.join("&")
    });
    let target = match query {
        Some(query) if !query.is_empty() => format!("{}?{query}", uri.path()),
        _ => uri.path().to_owned(),
    };
    let (method, body) = (request.method().to_string(), request.body().to_vec());
    MailAsked { method, target, body, deadline_ms: 0, answer: None }
}

fn same(one: &MailAsked, other: &MailAsked) -> bool {
    one.method == other.method && one.target == other.target && one.body == other.body
}

/// Whether nothing comes of a question any more.
fn is_over(asked: &MailAsked, now_ms: u64) -> bool {
    match &asked.answer {
        Some(answer) => now_ms >= answer.until_ms,
        None => now_ms >= asked.deadline_ms,
    }
}

fn find(view: View<'_>, to: &ServerName, question: &MailAsked) -> Result<Option<(u64, MailAsked)>, Error> {
    for row in view.scan(tables::MAIL_ASKED, (to,))? {
        let ((_, position), asked) = row?;
        if same(&asked, question) {
            return Ok(Some((position, asked)));
        }
    }
    Ok(None)
}

/// What has to go for a question to stand; `None` where it stands already, or too many do.
fn place_for(
    view: View<'_>,
    server: &ServerName,
    wanted: &MailAsked,
    now_ms: u64,
) -> Result<Option<Vec<u64>>, StoreError> {
    let (mut over, mut standing, mut kept) = (Vec::new(), 0, Vec::new());
    for row in view.scan(tables::MAIL_ASKED, (server,))? {
        let ((_, position), asked) = row?;
        if is_over(&asked, now_ms) {
            over.push(position);
        } else if same(&asked, wanted) {
            return Ok(None);
        } else if asked.answer.is_none() {
            standing += 1;
        } else {
            kept.push(position);
        }
    }
    // An answer to what settled itself is read by nobody: the oldest make room.
    let most = kept.len().saturating_sub(MAX_KEPT - 1);
    over.extend(kept.drain(..most));
    Ok((standing < MAX_STANDING).then_some(over))
}

fn forget(txn: &mut WriteTxn<'_>, server: &ServerName, position: u64) -> Result<(), StoreError> {
    txn.remove(tables::MAIL_ASKED, (server, position))?;
    txn.remove(tables::OUTBOX, (server, position)).map(drop)
}

/// Takes the answer of a peer: only to what it was asked, only the first one. Gives what was asked.
///
/// # Errors
/// Storage errors.
pub(crate) fn take_answer(
    txn: &mut WriteTxn<'_>,
    server: &ServerName,
    answer: &item::Response,
    now_ms: u64,
) -> Result<Option<String>, StoreError> {
    let Some(asked) = txn.view().get(tables::MAIL_ASKED, (server, answer.id))? else { return Ok(None) };
    if asked.answer.is_some() || answer.body.len() > MAX_ANSWER {
        return Ok(None);
    }
    let kind = answer.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    let kind = kind.and_then(|(_, value)| std::str::from_utf8(value).ok());
    let kept_for = if answer.status < 400 { KEPT_FOR_MS } else { REFUSED_FOR_MS };
    let kept = MailAnswer {
        status: answer.status,
        content_type: kind.unwrap_or("application/json").to_owned(),
        body: answer.body.clone(),
        until_ms: now_ms + kept_for,
    };
    let target = asked.target.clone();
    txn.put(tables::MAIL_ASKED, (server, answer.id), &MailAsked { answer: Some(kept), ..asked })?;
    // The answer is there, so the question has arrived, whatever became of its acknowledgement.
    txn.remove(tables::OUTBOX, (server, answer.id))?;
    Ok(Some(target))
}

/// What was asked of a server with whom the link ends.
///
/// # Errors
/// Storage errors.
pub(super) fn forget_questions(txn: &mut WriteTxn<'_>, server: &ServerName) -> Result<(), StoreError> {
    let mut positions = Vec::new();
    for row in txn.view().scan(tables::MAIL_ASKED, (server,))? {
        positions.push(row?.0.1);
    }
    positions.into_iter().try_for_each(|position| forget(txn, server, position))
}

fn storage(error: Error) -> PeerError {
    PeerError::Malformed(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn asked(target: &str, answered: bool) -> MailAsked {
        let answer = MailAnswer { status: 200, content_type: String::new(), body: Vec::new(), until_ms: 2_000 };
        MailAsked {
            method: "GET".to_owned(),
            target: target.to_owned(),
            body: Vec::new(),
            deadline_ms: 2_000,
            answer: answered.then_some(answer),
        }
    }

    #[tokio::test]
    async fn answers_that_nobody_reads_keep_nobody_from_asking_and_questions_that_stand_do() {
        let core = testing::core();
        let server = core.identity().server_name().to_owned();
        let fill = |answered: bool, count: u64| {
            let server = server.clone();
            let write = move |(), txn: &mut WriteTxn<'_>| {
                (0..count)
                    .try_for_each(|n| txn.put(tables::MAIL_ASKED, (&*server, n), &asked(&n.to_string(), answered)))
            };
            core.write(job(|_| Ok::<_, Error>(()), write))
        };
        let place = || place_for(core.snapshot().unwrap().view(), &server, &asked("next", false), 1_000).unwrap();
        fill(true, MAX_KEPT as u64 - 1).await.unwrap();
        assert_eq!(place(), Some(Vec::new()));
        fill(true, MAX_KEPT as u64 + 2).await.unwrap();
        assert_eq!(place(), Some(vec![0, 1, 2]), "the oldest");
        fill(false, MAX_STANDING as u64).await.unwrap();
        assert_eq!(place(), None);
    }
}
