//! `/_matrix/client/v3/room_keys/version` and `/version/{version}`: the versions of a backup.

use millpond_node::{Error, backup::Backups};
use ruma::{
    UInt,
    api::client::backup::{
        create_backup_version, delete_backup_version, get_backup_info, get_latest_backup_info, update_backup_version,
    },
};

use crate::glue::{Args, Routes};

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(create);
    routes.add(latest);
    routes.add(show);
    routes.add(update);
    routes.add(delete);
}

async fn create(
    backups: Backups,
    Args { sender, request, .. }: Args<create_backup_version::v3::Request>,
) -> Result<create_backup_version::v3::Response, Error> {
    let version = backups.create(&sender.user_id, &request.algorithm).await?;
    Ok(create_backup_version::v3::Response::new(version))
}

async fn latest(
    backups: Backups,
    Args { sender, .. }: Args<get_latest_backup_info::v3::Request>,
) -> Result<get_latest_backup_info::v3::Response, Error> {
    let shown = backups.version(&sender.user_id, None)?;
    let count = UInt::new_saturating(shown.count);
    Ok(get_latest_backup_info::v3::Response::new(shown.algorithm, count, shown.etag, shown.version))
}

async fn show(
    backups: Backups,
    Args { sender, request, .. }: Args<get_backup_info::v3::Request>,
) -> Result<get_backup_info::v3::Response, Error> {
    let shown = backups.version(&sender.user_id, Some(&request.version))?;
    let count = UInt::new_saturating(shown.count);
    Ok(get_backup_info::v3::Response::new(shown.algorithm, count, shown.etag, shown.version))
}

async fn update(
    backups: Backups,
    Args { sender, request, .. }: Args<update_backup_version::v3::Request>,
) -> Result<update_backup_version::v3::Response, Error> {
    backups.update(&sender.user_id, &request.version, &request.algorithm).await?;
    Ok(update_backup_version::v3::Response::new())
}

async fn delete(
    backups: Backups,
    Args { sender, request, .. }: Args<delete_backup_version::v3::Request>,
) -> Result<delete_backup_version::v3::Response, Error> {
    backups.delete(&sender.user_id, &request.version).await?;
    Ok(delete_backup_version::v3::Response::new())
}
