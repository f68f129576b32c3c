//! What a user keeps for himself: account data, tags, filters, push rules, profile.

mod account_data;
mod filter;
mod profile;
mod push_rule;
mod push_rule_parts;
mod push_rules;
mod tags;

use millpond_node::{Error, accounts::Sender};
use ruma::UserId;

use crate::glue::Routes;

/// Registers the endpoints.
pub(crate) fn routes(routes: &mut Routes) {
    account_data::routes(routes);
    filter::routes(routes);
    profile::routes(routes);
    push_rule::routes(routes);
    push_rule_parts::routes(routes);
    push_rules::routes(routes);
    tags::routes(routes);
}

/// The user of the path must be the one who asks.
fn own(sender: &Sender, user_id: &UserId) -> Result<(), Error> {
    if sender.user_id == *user_id {
        return Ok(());
    }
    Err(Error::forbidden(format!("you are {}: this belongs to {user_id}", sender.user_id)))
}
