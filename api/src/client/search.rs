//! `POST /_matrix/client/v3/search`

use millpond_node::{
    Error,
    search::{Around, Order, Request as Search, Search as Service},
};
use ruma::api::client::search::search_events::v3::{Criteria, GroupingKey, OrderBy, Request};
use serde::Deserialize;

use crate::glue::{Args, Http};

pub(super) async fn handler(search: Service, args: Args<Request>) -> Result<Http, Error> {
    let Args { request, sender, json, .. } = args;
    let Some(criteria) = request.search_categories.room_events else {
        return Ok(Http::json("{\"search_categories\":{}}"));
    };
    let asked = asked(criteria, request.next_batch, asks_for_context(&json))?;
    Ok(Http::json(search.answer(sender.user_id, sender.device_id, asked).await?))
}

fn asked(criteria: Criteria, next_batch: Option<String>, with_context: bool) -> Result<Search, Error> {
    let order = match criteria.order_by {
        None | Some(OrderBy::Rank) => Order::Rank,
        Some(OrderBy::Recent) => Order::Recent,
        Some(_) => return Err(Error::invalid_param("`order_by` must be recent or rank")),
    };
    let (mut by_room, mut by_sender) = (false, false);
    for group in &criteria.groupings.group_by {
        match group.key {
            Some(GroupingKey::RoomId) => by_room = true,
            Some(GroupingKey::Sender) => by_sender = true,
            _ => return Err(Error::invalid_param("`group_by` may have the keys room_id and sender")),
        }
    }
    let around = criteria.event_context;
    let context = Around {
        before: around.before_limit.into(),
        after: around.after_limit.into(),
        profiles: around.include_profile,
    };
    Ok(Search {
        term: criteria.search_term,
        keys: criteria.keys.map(|keys| keys.iter().map(ToString::to_string).collect()),
        filter: criteria.filter,
        order,
        context: with_context.then_some(context),
        include_state: criteria.include_state.unwrap_or(false),
        by_room,
        by_sender,
        next_batch,
    })
}

/// Whether the body has `event_context`: ruma gives the default one where there is none, and it is not to be answered then.
fn asks_for_context(json: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Body {
        search_categories: Categories,
    }
    #[derive(Deserialize)]
    struct Categories {
        room_events: Events,
    }
    #[derive(Deserialize)]
    struct Events {
        event_context: Option<serde::de::IgnoredAny>,
    }
    serde_json::from_slice::<Body>(json).is_ok_and(|body| body.search_categories.room_events.event_context.is_some())
}
