//! What the classic sender takes: questions that carry no event, and requests made of events of classic rooms.

use bytes::Bytes;
use http::{Method, Request, header};
use ruma::{
    RoomId,
    api::{
        OutgoingBody, OutgoingRequest,
        error::IntoHttpError,
        federation::{
            authenticated_media::{get_content, get_content_thumbnail},
            authorization::get_event_authorization,
            backfill::get_backfill,
            device::get_devices,
            directory::{get_public_rooms, get_public_rooms_filtered},
            event::{get_event_by_timestamp, get_missing_events, get_room_state, get_room_state_ids},
            keys::{claim_keys, get_keys},
            membership::{prepare_join_event, prepare_knock_event, prepare_leave_event},
            query::{get_profile_information, get_room_information},
            space::get_hierarchy,
        },
        path_builder::SinglePath,
    },
};
use serde_json::value::RawValue;

use super::sendable::{ClassicRoom, Sendable};

/// What a question is about, which decides whether it may leave by the classic route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About<'a> {
    /// A room: it must not be an overlay room.
    Room(&'a RoomId),
    /// Users, devices and files of the server: overlay rooms must not be all that is shared with it.
    People,
    /// What a server shows to everybody who asks.
    Everybody,
}

/// A request that carries no event.
pub trait Question: OutgoingRequest<PathBuilder = SinglePath> {
    /// Bytes of the answer at most.
    const MOST: u64;
    /// Whether nobody waits for it: then a server that is down is left alone for a while.
    const CAN_WAIT: bool;
    /// Whether it travels over mailboxes to a peer that is away: its answer is worth something hours later, and giving it changes
    /// nothing.
    const BY_MAIL: bool;

    /// What it is about.
    fn about(&self) -> About<'_>;
}

macro_rules! questions {
    ($most:expr, $can_wait:expr, $by_mail:expr, $about:expr; $($request:ty),* $(,)?) => {
        $(impl Question for $request {
            const MOST: u64 = $most;
            const CAN_WAIT: bool = $can_wait;
            const BY_MAIL: bool = $by_mail;

            fn about(&self) -> About<'_> {
                let about: fn(&Self) -> About<'_> = $about;
                about(self)
            }
        })*
    };
}
// The state of a room with its auth chain.
questions!(256 << 20, true, true, |it| About::Room(&it.room_id);
    get_room_state::v1::Request,
    get_room_state_ids::v1::Request,
);
questions!(64 << 20, true, true, |it| About::Room(&it.room_id); get_event_authorization::v1::Request);
// A hundred events of 64 KiB.
questions!(16 << 20, true, true, |it| About::Room(&it.room_id); get_backfill::v1::Request, get_missing_events::v1::Request);
// The largest upload that is usual.
questions!(128 << 20, false, true, |_| About::People; get_content::v1::Request);
questions!(128 << 20, false, false, |_| About::People; get_content_thumbnail::v1::Request);
questions!(8 << 20, false, false, |_| About::People; claim_keys::v1::Request);
// Who somebody is, and which devices he has.
questions!(8 << 20, false, true, |_| About::People;
    get_devices::v1::Request,
    get_keys::v1::Request,
    get_profile_information::v1::Request,
);
questions!(8 << 20, false, false, |_| About::Everybody;
    get_public_rooms::v1::Request,
    get_public_rooms_filtered::v1::Request,
    get_room_information::v1::Request,
);
questions!(8 << 20, false, false, |it| About::Room(&it.room_id);
    get_event_by_timestamp::v1::Request,
    get_hierarchy::v1::Request,
    prepare_join_event::v1::Request,
    prepare_knock_event::v1::Request,
    prepare_leave_event::v1::Request,
);

/// A request for a classic server, not yet signed.
#[derive(Clone, Debug)]
pub struct Outgoing {
    request: Request<Bytes>,
}

impl Outgoing {
    /// A question.
    ///
    /// # Errors
    /// What does not serialise.
    pub fn question<R: Question>(question: R) -> Result<Self, String> {
        http_request(question).map(|request| Self { request })
    }

    /// A request that brings one event: a join, a leave, a knock, an invite.
    ///
    /// # Errors
    /// As [`Outgoing::question`].
    pub fn bringing<R>(pdu: Sendable<ClassicRoom>, request: impl FnOnce(Box<RawValue>) -> R) -> Result<Self, String>
    where
        R: OutgoingRequest<PathBuilder = SinglePath>,
    {
        http_request(request(pdu.into_json())).map(|request| Self { request })
    }

    /// A transaction: `body` puts the events into it, in their order.
    ///
    /// # Errors
    /// As [`Outgoing::question`].
    pub fn transaction(
        txn_id: &str,
        pdus: Vec<Sendable<ClassicRoom>>,
        body: impl FnOnce(Vec<Box<RawValue>>) -> Result<Vec<u8>, String>,
    ) -> Result<Self, String> {
        let pdus = pdus.into_iter().map(Sendable::into_json).collect();
        transaction_request(txn_id, body(pdus)?).map(|request| Self { request })
    }

    pub(super) fn into_request(self) -> Request<Bytes> {
        self.request
    }
}

/// `PUT /_matrix/federation/v1/send/{txnId}`.
pub(crate) fn transaction_request(txn_id: &str, body: Vec<u8>) -> Result<Request<Bytes>, String> {
    let request = Request::builder()
        .method(Method::PUT)
        .uri(format!("/_matrix/federation/v1/send/{txn_id}"))
        .header(header::CONTENT_TYPE, "application/json");
    request.body(Bytes::from(body)).map_err(|e| e.to_string())
}

/// A request of ruma's as HTTP, with the path alone for its URI.
pub(crate) fn http_request<R>(request: R) -> Result<Request<Bytes>, String>
where
    R: OutgoingRequest<PathBuilder = SinglePath>,
{
    let (mut head, body) = request.try_into_http_request_inner("", ()).map_err(|e| e.to_string())?.into_parts();
    if let Some(kind) = body.content_type() {
        head.headers.entry(header::CONTENT_TYPE).or_insert(kind);
    }
    let body = body.try_into_buf::<Vec<u8>>().map_err(|error| {
        let error: IntoHttpError = error.into();
        error.to_string()
    })?;
    Ok(Request::from_parts(head, Bytes::from(body)))
}
