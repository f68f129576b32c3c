//! `/_matrix/client/v3/room_keys/keys`, `/keys/{roomId}` and `/keys/{roomId}/{sessionId}`: the sessions in a backup.

use std::collections::BTreeMap;

use millpond_node::{
    Error,
    backup::{Backups, Count, Scope, Sessions},
};
use ruma::{
    RoomId, UInt,
    api::client::backup::{
        RoomKeyBackup, add_backup_keys, add_backup_keys_for_room, add_backup_keys_for_session, delete_backup_keys,
        delete_backup_keys_for_room, delete_backup_keys_for_session, get_backup_keys, get_backup_keys_for_room,
        get_backup_keys_for_session,
    },
};

use crate::glue::{Args, Routes};

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(put_all);
    routes.add(put_room);
    routes.add(put_session);
    routes.add(show_all);
    routes.add(show_room);
    routes.add(show_session);
    routes.add(delete_all);
    routes.add(delete_room);
    routes.add(delete_session);
}

async fn put_all(
    backups: Backups,
    Args { sender, request, .. }: Args<add_backup_keys::v3::Request>,
) -> Result<add_backup_keys::v3::Response, Error> {
    let (etag, count) = told(backups.put_keys(&sender.user_id, &request.version, request.rooms).await?);
    Ok(add_backup_keys::v3::Response::new(etag, count))
}

async fn put_room(
    backups: Backups,
    Args { sender, request, .. }: Args<add_backup_keys_for_room::v3::Request>,
) -> Result<add_backup_keys_for_room::v3::Response, Error> {
    let sessions = Sessions::from([(request.room_id, RoomKeyBackup::new(request.sessions))]);
    let (etag, count) = told(backups.put_keys(&sender.user_id, &request.version, sessions).await?);
    Ok(add_backup_keys_for_room::v3::Response::new(etag, count))
}

async fn put_session(
    backups: Backups,
    Args { sender, request, .. }: Args<add_backup_keys_for_session::v3::Request>,
) -> Result<add_backup_keys_for_session::v3::Response, Error> {
    let session = BTreeMap::from([(request.session_id, request.session_data)]);
    let sessions = Sessions::from([(request.room_id, RoomKeyBackup::new(session))]);
    let (etag, count) = told(backups.put_keys(&sender.user_id, &request.version, sessions).await?);
    Ok(add_backup_keys_for_session::v3::Response::new(etag, count))
}

async fn show_all(
    backups: Backups,
    Args { sender, request, .. }: Args<get_backup_keys::v3::Request>,
) -> Result<get_backup_keys::v3::Response, Error> {
    let sessions = backups.keys(&sender.user_id, &request.version, &Scope::All)?;
    Ok(get_backup_keys::v3::Response::new(sessions))
}

async fn show_room(
    backups: Backups,
    Args { sender, request, .. }: Args<get_backup_keys_for_room::v3::Request>,
) -> Result<get_backup_keys_for_room::v3::Response, Error> {
    let scope = Scope::Room(request.room_id.clone());
    let sessions = backups.keys(&sender.user_id, &request.version, &scope)?;
    Ok(get_backup_keys_for_room::v3::Response::new(of_room(sessions, &request.room_id)))
}

async fn show_session(
    backups: Backups,
    Args { sender, request, .. }: Args<get_backup_keys_for_session::v3::Request>,
) -> Result<get_backup_keys_for_session::v3::Response, Error> {
    let scope = Scope::Session(request.room_id.clone(), request.session_id.clone());
    let sessions = backups.keys(&sender.user_id, &request.version, &scope)?;
    let session = of_room(sessions, &request.room_id).remove(&request.session_id);
    let session = session.ok_or_else(|| Error::not_found("this session is not in the backup"))?;
    Ok(get_backup_keys_for_session::v3::Response::new(session))
}

async fn delete_all(
    backups: Backups,
    Args { sender, request, .. }: Args<delete_backup_keys::v3::Request>,
) -> Result<delete_backup_keys::v3::Response, Error> {
    let (etag, count) = told(backups.delete_keys(&sender.user_id, &request.version, Scope::All).await?);
    Ok(delete_backup_keys::v3::Response::new(etag, count))
}

async fn delete_room(
    backups: Backups,
    Args { sender, request, .. }: Args<delete_backup_keys_for_room::v3::Request>,
) -> Result<delete_backup_keys_for_room::v3::Response, Error> {
    let scope = Scope::Room(request.room_id);
    let (etag, count) = told(backups.delete_keys(&sender.user_id, &request.version, scope).await?);
    Ok(delete_backup_keys_for_room::v3::Response::new(etag, count))
}

async fn delete_session(
    backups: Backups,
    Args { sender, request, .. }: Args<delete_backup_keys_for_session::v3::Request>,
) -> Result<delete_backup_keys_for_session::v3::Response, Error> {
    let scope = Scope::Session(request.room_id, request.session_id);
    let (etag, count) = told(backups.delete_keys(&sender.user_id, &request.version, scope).await?);
    Ok(delete_backup_keys_for_session::v3::Response::new(etag, count))
}

fn told(Count { count, etag }: Count) -> (String, UInt) {
    (etag, UInt::new_saturating(count))
}

fn of_room(
    mut sessions: Sessions,
    room: &RoomId,
) -> BTreeMap<String, ruma::serde::Raw<ruma::api::client::backup::KeyBackupData>> {
    sessions.remove(room).map(|backup| backup.sessions).unwrap_or_default()
}
