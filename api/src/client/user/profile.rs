//! `/profile/{userId}` and `/profile/{userId}/{keyName}`: the whole profile, one field, set, remove.

use millpond_node::{Error, profile::Profiles};
use ruma::{
    api::client::profile::{delete_profile_field, get_profile, get_profile_field, set_profile_field},
    profile::{ProfileFieldName, ProfileFieldValue},
};

use super::own;
use crate::glue::{Args, Routes};

pub(super) fn routes(routes: &mut Routes) {
    routes.add(whole);
    routes.add(field);
    routes.add(set);
    routes.add(remove);
}

async fn whole(
    profiles: Profiles,
    Args { request, .. }: Args<get_profile::v3::Request>,
) -> Result<get_profile::v3::Response, Error> {
    Ok(profiles.profile(&request.user_id).await?.into())
}

async fn field(
    profiles: Profiles,
    Args { request, .. }: Args<get_profile_field::v3::Request>,
) -> Result<get_profile_field::v3::Response, Error> {
    let profile = profiles.profile(&request.user_id).await?;
    let mut response = get_profile_field::v3::Response::default();
    match profile.get(request.field.as_str()) {
        Some(value) => {
            let value = ProfileFieldValue::new(request.field.as_str(), value.clone());
            response.value = Some(value.map_err(|e| Error::not_found(format!("the field is not readable: {e}")))?);
        }
        // Clients from before 1.16 take an empty object for a user without a name or picture.
        None if matches!(request.field, ProfileFieldName::DisplayName | ProfileFieldName::AvatarUrl) => {}
        None => return Err(Error::not_found(format!("the profile of {} has no such field", request.user_id))),
    }
    Ok(response)
}

async fn set(
    profiles: Profiles,
    Args { sender, request, .. }: Args<set_profile_field::v3::Request>,
) -> Result<set_profile_field::v3::Response, Error> {
    own(&sender, &request.user_id)?;
    sender.active()?;
    profiles.set(&sender.user_id, &request.value).await?;
    Ok(set_profile_field::v3::Response::new())
}

async fn remove(
    profiles: Profiles,
    Args { sender, request, .. }: Args<delete_profile_field::v3::Request>,
) -> Result<delete_profile_field::v3::Response, Error> {
    own(&sender, &request.user_id)?;
    sender.active()?;
    profiles.remove(&sender.user_id, &request.field).await?;
    Ok(delete_profile_field::v3::Response::new())
}
