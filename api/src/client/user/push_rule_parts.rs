//! `/pushrules/global/{kind}/{ruleId}/enabled` and `/actions`: show, set.

use millpond_node::{Error, push_rules::PushRules};
use ruma::api::client::push::{get_pushrule_actions, get_pushrule_enabled, set_pushrule_actions, set_pushrule_enabled};

use crate::glue::{Args, Routes};

pub(super) fn routes(routes: &mut Routes) {
    routes.add(enabled);
    routes.add(set_enabled);
    routes.add(actions);
    routes.add(set_actions);
}

async fn enabled(
    push_rules: PushRules,
    Args { sender, request, .. }: Args<get_pushrule_enabled::v3::Request>,
) -> Result<get_pushrule_enabled::v3::Response, Error> {
    let rule = push_rules.rule(&sender.user_id, request.kind, &request.rule_id)?;
    Ok(get_pushrule_enabled::v3::Response::new(rule.enabled))
}

async fn set_enabled(
    push_rules: PushRules,
    Args { sender, request, .. }: Args<set_pushrule_enabled::v3::Request>,
) -> Result<set_pushrule_enabled::v3::Response, Error> {
    push_rules.set_enabled(&sender.user_id, request.kind, request.rule_id, request.enabled).await?;
    Ok(set_pushrule_enabled::v3::Response::new())
}

async fn actions(
    push_rules: PushRules,
    Args { sender, request, .. }: Args<get_pushrule_actions::v3::Request>,
) -> Result<get_pushrule_actions::v3::Response, Error> {
    let rule = push_rules.rule(&sender.user_id, request.kind, &request.rule_id)?;
    Ok(get_pushrule_actions::v3::Response::new(rule.actions))
}

async fn set_actions(
    push_rules: PushRules,
    Args { sender, request, .. }: Args<set_pushrule_actions::v3::Request>,
) -> Result<set_pushrule_actions::v3::Response, Error> {
    push_rules.set_actions(&sender.user_id, request.kind, request.rule_id, request.actions).await?;
    Ok(set_pushrule_actions::v3::Response::new())
}
