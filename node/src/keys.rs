//! End-to-end encryption keys: of local devices, and what we keep of remote ones.
//!
//! Local keys are rows; keys of remote users are kept while a room is shared and asked for again when an update may have
//! been missed. Whoever writes a change of a device list goes through [`lists`], so that clients and peers are told.

mod claim;
mod cross_signing;
mod federation;
mod hooks;
mod inbound;
mod linked;
mod lists;
mod outbound;
mod packs;
mod query;
mod remote;
mod show;
mod signatures;
mod signed;
mod upload;

use std::sync::Arc;

pub use self::{
    claim::{Claimed, Claims},
    federation::Audience,
    hooks::{device_removed, device_renamed, user_deactivated},
    inbound::{Update, apply_device_list_update, apply_signing_key_update, mark_stale},
    lists::{DeviceListChanges, device_lists},
    outbound::{DeviceEdus, device_lists_delivered},
    packs::{PackEdu, PackEdus, apply_pack, apply_used, link_ended, pack_edus, packs_delivered},
    remote::RemoteKeys,
    upload::{as_ruma, key_counts},
};
pub(crate) use self::{
    lists::{servers_sharing, shares_room_by},
    outbound::device_list_edus,
    packs::all_due,
    upload::FirstKeys,
};
use crate::Core;

/// The keys of users and devices. Cloning is cheap.
#[derive(Clone)]
pub struct Keys {
    core: Core,
    remote: Arc<dyn RemoteKeys>,
}

impl Keys {
    /// The keys in `core`'s store, and those that `remote` asks other servers for.
    pub fn new(core: Core, remote: Arc<dyn RemoteKeys>) -> Self {
        Self { core, remote }
    }
}

#[cfg(test)]
pub(crate) mod tests;
