//! `/_matrix/client/v3/rooms/{roomId}/state`, all of it, and one entry: GET and PUT.

use millpond_node::{Error, delayed::Delayed, memberships::Memberships, rooms::Rooms, timeline::Timeline};
use ruma::{
    OwnedUserId,
    api::client::state::{
        get_state_event_for_key::v3::{Request as GetOne, StateEventFormat},
        get_state_events::v3::Request as GetAll,
        send_state_event::v3::{Request as Put, Response as PutResponse},
    },
    events::{StateEventType, room::member::MembershipState},
};

use crate::{
    client::delayed::{Ask, delay, schedule},
    glue::{Answer, Args, Http, Routes},
};

/// Registers the endpoints. An empty state key has no path segment, with or without a slash before it.
pub(crate) fn routes(routes: &mut Routes) {
    routes.add(all);
    routes.add_with_empty_tail(one);
    routes.add_with_empty_tail(put);
}

async fn all(timeline: Timeline, args: Args<GetAll>) -> Result<Http, Error> {
    let asker = (&*args.sender.user_id, &*args.sender.device_id);
    timeline.until_whole(&args.request.room_id).await?;
    Ok(Http::json(timeline.state(asker, &args.request.room_id)?))
}

async fn one(timeline: Timeline, args: Args<GetOne>) -> Result<Http, Error> {
    let (asker, request) = ((&*args.sender.user_id, &*args.sender.device_id), &args.request);
    let kind = request.event_type.to_string();
    let whole = request.format == StateEventFormat::Event;
    let entry = || timeline.state_entry(asker, &request.room_id, (&kind, &request.state_key), whole);
    match entry() {
        // Somebody who is not here may be among the members of a room that was just joined.
        Err(Error::Matrix { .. }) if request.event_type == StateEventType::RoomMember => {
            timeline.until_whole(&request.room_id).await?;
            Ok(Http::json(entry()?))
        }
        found => Ok(Http::json(found?)),
    }
}

async fn put(rooms: Rooms, memberships: Memberships, delayed: Delayed, args: Args<Put>) -> Result<Http, Error> {
    args.sender.active()?;
    let (request, user) = (args.request, &args.sender.user_id);
    let content = request.body.json().get();
    if let Some(delay) = delay(args.query.as_deref())? {
        let (kind, state_key) = (request.event_type.to_string(), Some(request.state_key));
        let ask = Ask { room_id: request.room_id, kind, state_key, txn_id: None, content, delay };
        return schedule(&delayed, &args.sender, ask).await;
    }
    if request.event_type == StateEventType::RoomMember {
        rooms.until_whole(&request.room_id).await?;
    }
    if let Some(invited) = invited(&request) {
        memberships.check_reachable(&invited, memberships.policy_of(&request.room_id)?).await?;
    }
    let sent = rooms.send_state(user, &request.room_id, &request.event_type, request.state_key, content).await?;
    Ok(Http(PutResponse::new(sent.event_id).into_http()?))
}

/// Whom this state event invites, if that is what it does.
fn invited(request: &Put) -> Option<OwnedUserId> {
    let membership = request.body.get_field::<MembershipState>("membership").ok().flatten();
    if request.event_type != StateEventType::RoomMember || membership != Some(MembershipState::Invite) {
        return None;
    }
    OwnedUserId::try_from(request.state_key.as_str()).ok()
}
