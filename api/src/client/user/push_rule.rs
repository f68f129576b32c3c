//! `/pushrules/global/{kind}/{ruleId}`: show, set, delete.

use millpond_node::{Error, push_rules::PushRules};
use ruma::api::client::push::{delete_pushrule, get_pushrule, set_pushrule};

use crate::glue::{Args, Routes};

pub(super) fn routes(routes: &mut Routes) {
    routes.add(show);
    routes.add(set);
    routes.add(delete);
}

async fn show(
    push_rules: PushRules,
    Args { sender, request, .. }: Args<get_pushrule::v3::Request>,
) -> Result<get_pushrule::v3::Response, Error> {
    Ok(get_pushrule::v3::Response::new(push_rules.rule(&sender.user_id, request.kind, &request.rule_id)?))
}

async fn set(
    push_rules: PushRules,
    Args { sender, request, .. }: Args<set_pushrule::v3::Request>,
) -> Result<set_pushrule::v3::Response, Error> {
    push_rules.insert(&sender.user_id, request.rule, request.after, request.before).await?;
    Ok(set_pushrule::v3::Response::new())
}

async fn delete(
    push_rules: PushRules,
    Args { sender, request, .. }: Args<delete_pushrule::v3::Request>,
) -> Result<delete_pushrule::v3::Response, Error> {
    push_rules.remove(&sender.user_id, request.kind, request.rule_id).await?;
    Ok(delete_pushrule::v3::Response::new())
}
