//! `/pushrules/` and `/pushrules/global/`: all rules.

use millpond_node::{Error, push_rules::PushRules};
use ruma::api::client::push::{get_pushrules_all, get_pushrules_global_scope};

use crate::glue::{Args, Routes};

pub(super) fn routes(routes: &mut Routes) {
    routes.add(all);
    routes.add(global);
}

async fn all(
    push_rules: PushRules,
    Args { sender, .. }: Args<get_pushrules_all::v3::Request>,
) -> Result<get_pushrules_all::v3::Response, Error> {
    Ok(get_pushrules_all::v3::Response::new(push_rules.all(&sender.user_id)?))
}

async fn global(
    push_rules: PushRules,
    Args { sender, .. }: Args<get_pushrules_global_scope::v3::Request>,
) -> Result<get_pushrules_global_scope::v3::Response, Error> {
    Ok(get_pushrules_global_scope::v3::Response::new(push_rules.all(&sender.user_id)?))
}
