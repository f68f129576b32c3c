//! `POST /_matrix/client/v3/rooms/{roomId}/report`, `/rooms/{roomId}/report/{eventId}`, `/users/{userId}/report`

use millpond_node::{Error, reports::Reports};
use ruma::api::client::{
    reporting::report_user,
    room::{report_content, report_room},
};

use crate::glue::{Args, Routes};

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(room);
    routes.add(event);
    routes.add(user);
}

async fn room(reports: Reports, args: Args<report_room::v3::Request>) -> Result<report_room::v3::Response, Error> {
    let request = args.request;
    reports.room(&args.sender.user_id, &request.room_id, request.reason).await?;
    Ok(report_room::v3::Response::new())
}

async fn event(
    reports: Reports,
    args: Args<report_content::v3::Request>,
) -> Result<report_content::v3::Response, Error> {
    let (sender, request) = (args.sender, args.request);
    let reporter = (&*sender.user_id, &*sender.device_id);
    reports.event(reporter, &request.room_id, &request.event_id, request.reason.unwrap_or_default()).await?;
    Ok(report_content::v3::Response::new())
}

async fn user(reports: Reports, args: Args<report_user::v3::Request>) -> Result<report_user::v3::Response, Error> {
    reports.user(&args.sender.user_id, &args.request.user_id, args.request.reason).await?;
    Ok(report_user::v3::Response::new())
}
