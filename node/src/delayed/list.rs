//! Looking at delayed events.

use millpond_store::{
    View,
    rows::{DelayedEvent, DelayedOutcome},
    tables,
};
use ruma::{OwnedRoomId, UserId};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Delayed, find};
use crate::{
    Error,
    json::{comma, key, plain_member, raw, text_member},
};

/// Which delayed events, in which order: the query as MSC4140 has it.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Filter {
    /// By which time they are ordered.
    #[serde(default)]
    pub order_by: OrderBy,
    /// Which way.
    #[serde(default)]
    pub dir: Dir,
    /// Where the last page ended.
    pub from: Option<String>,
    /// From which time on (or back).
    pub since_ts: Option<Since>,
    /// Waiting or ended.
    pub status: Option<Status>,
    /// Of a room.
    pub room_id: Option<OwnedRoomId>,
    /// Of a type.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// By what came of them.
    pub outcome: Option<Outcome>,
    /// By why it came.
    pub reason: Option<Reason>,
}

/// The time that orders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderBy {
    /// When it is or was to be sent.
    #[default]
    SendTs,
    /// When it ended, or is to be sent.
    OriginServerTs,
    /// When it was scheduled or restarted.
    RunningSince,
}

/// A direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Dir {
    /// The earliest first.
    #[default]
    #[serde(rename = "f")]
    Forward,
    /// The latest first.
    #[serde(rename = "b")]
    Backward,
}

/// A time, or the end of all.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Since {
    /// Milliseconds since the epoch.
    At(u64),
    /// The latest.
    End,
}

impl TryFrom<String> for Since {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "end" => Ok(Self::End),
            number => number.parse().map(Self::At).map_err(|_| "`since_ts` is a time or `end`".to_owned()),
        }
    }
}

/// Waiting or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It waits.
    Scheduled,
    /// It has ended.
    Finalised,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was sent.
    Send,
    /// Somebody cancelled it.
    Cancel,
    /// It could not be sent.
    Error,
}

/// Why that came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// Somebody acted.
    Action,
    /// Its time had come.
    Delay,
}

/// A page, as a JSON body.
pub type Page = Vec<u8>;

impl Filter {
    fn takes(&self, row: &DelayedEvent) -> bool {
        let outcome = row.end.as_ref().map(|end| match end.outcome {
            DelayedOutcome::Sent(_) => Outcome::Send,
            DelayedOutcome::Cancelled => Outcome::Cancel,
            DelayedOutcome::Failed(_) => Outcome::Error,
        });
        let status = if row.end.is_some() { Status::Finalised } else { Status::Scheduled };
        let reason = row.end.as_ref().map(|end| if end.by_action { Reason::Action } else { Reason::Delay });
        self.status.is_none_or(|wanted| wanted == status)
            && self.outcome.is_none_or(|wanted| outcome == Some(wanted))
            && self.reason.is_none_or(|wanted| reason == Some(wanted))
            && self.room_id.as_ref().is_none_or(|wanted| *wanted == row.room_id)
            && self.kind.as_ref().is_none_or(|wanted| *wanted == row.kind)
    }

    fn time(&self, row: &DelayedEvent) -> u64 {
        match (self.order_by, &row.end) {
            (OrderBy::RunningSince, _) => row.running_since_ms,
            (OrderBy::OriginServerTs, Some(end)) => end.at_ms,
            _ => row.due_ms(),
        }
    }
}

impl Delayed {
    /// One delayed event of a user, as a JSON body.
    ///
    /// # Errors
    /// 404 for one that is not his; storage errors.
    pub fn one(&self, user: &UserId, id: &str) -> Result<Vec<u8>, Error> {
        let snapshot = self.core.snapshot()?;
        let row = find(snapshot.view(), id)?;
        if row.user_id != user {
            return Err(Error::not_found("there is no such delayed event"));
        }
        let mut body = Vec::new();
        write(&mut body, id, &row);
        Ok(body)
    }

    /// A page of a user's delayed events.
    ///
    /// # Errors
    /// 400 `M_INVALID_PARAM` for a token that is not ours; storage errors.
    pub fn page(&self, user: &UserId, filter: &Filter) -> Result<Page, Error> {
        let snapshot = self.core.snapshot()?;
        let mut found = self.of(snapshot.view(), user, filter)?;
        let forward = filter.dir == Dir::Forward;
        if !forward {
            found.reverse();
        }
        let start = match &filter.from {
            Some(from) => place(&found, filter, from)?,
            None => {
                let now_ms = self.core.clock().now_ms();
                let since = match filter.since_ts {
                    Some(Since::At(at)) => at,
                    Some(Since::End) => u64::MAX,
                    None => now_ms,
                };
                let is_before =
                    |(at, ..): &(u64, String, DelayedEvent)| if forward { *at < since } else { *at > since };
                found.iter().take_while(|one| is_before(one)).count()
            }
        };
        let mut body = b"{\"delayed_events\":[".to_vec();
        let page = &found[start.min(found.len())..];
        for (_, id, row) in page.iter().take(PAGE) {
            write(&mut body, id, row);
        }
        raw(&mut body, "]");
        if let Some((at, id, _)) = page.get(PAGE - 1).filter(|_| page.len() > PAGE) {
            let name = if forward { "next_batch" } else { "prev_batch" };
            text_member(&mut body, name, &format!("{at}_{id}"));
        }
        raw(&mut body, "}");
        Ok(body)
    }

    fn of(&self, view: View<'_>, user: &UserId, filter: &Filter) -> Result<Vec<(u64, String, DelayedEvent)>, Error> {
        let mut found = Vec::new();
        for row in view.scan(tables::DELAYED_OF, (user,))? {
            let ((_, id), ()) = row?;
            let row = find(view, &id)?;
            if filter.takes(&row) {
                found.push((filter.time(&row), id, row));
            }
        }
        found.sort_by(|one, other| (one.0, &one.1).cmp(&(other.0, &other.1)));
        Ok(found)
    }
}

/// Behind what a token names.
fn place(found: &[(u64, String, DelayedEvent)], filter: &Filter, from: &str) -> Result<usize, Error> {
    let bad = || Error::invalid_param("`from` is not a token of this server: ask once without it");
    let (at, id) = from.split_once('_').ok_or_else(bad)?;
    let at: u64 = at.parse().map_err(|_| bad())?;
    let seen = |(time, other, _): &(u64, String, DelayedEvent)| match filter.dir {
        Dir::Forward => (*time, other.as_str()) <= (at, id),
        Dir::Backward => (*time, other.as_str()) >= (at, id),
    };
    Ok(found.iter().take_while(|one| seen(one)).count())
}

fn write(out: &mut Vec<u8>, id: &str, row: &DelayedEvent) {
    comma(out);
    out.push(b'{');
    text_member(out, "delay_id", id);
    text_member(out, "room_id", row.room_id.as_str());
    text_member(out, "type", &row.kind);
    if let Some(state_key) = &row.state_key {
        text_member(out, "state_key", state_key);
    }
    plain_member(out, "delay", row.delay_ms);
    plain_member(out, "running_since", row.running_since_ms);
    key(out, "content");
    // What was scheduled was a JSON object.
    raw(out, serde_json::from_str::<&RawValue>(&row.content).map_or("{}", RawValue::get));
    if let Some(end) = &row.end {
        match &end.outcome {
            DelayedOutcome::Sent(event_id) => text_member(out, "event_id", event_id.as_str()),
            DelayedOutcome::Failed(error) => {
                key(out, "error");
                raw(out, error);
            }
            DelayedOutcome::Cancelled => {}
        }
        plain_member(out, "origin_server_ts", end.at_ms);
    }
    out.push(b'}');
}

/// Delayed events of one page.
const PAGE: usize = 50;
