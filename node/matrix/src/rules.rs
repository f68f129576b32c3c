//! The room versions that this node speaks, and the rules of each.
//!
//! Versions 1 to 5 predate canonical JSON and the second state resolution's fixes; ruma does not claim them and neither
//! do we.

use ruma::{
    RoomVersionId,
    room_version_rules::{RoomVersionRules, StateResolutionV2Rules},
};

/// Everything that depends on the version of a room.
#[derive(Debug)]
pub struct RoomRules {
    /// The version that these rules belong to.
    pub version: RoomVersionId,
    /// ruma's rules: format, auth, redaction, signatures.
    pub room: RoomVersionRules,
    /// The flavour of state resolution 2 that the version uses.
    pub state_res: StateResolutionV2Rules,
}

impl RoomRules {
    /// Whether the room id is the hash of the create event, which then stands in no `auth_events` (version 12).
    pub fn create_is_room_id(&self) -> bool {
        self.room.authorization.room_create_event_id_as_room_id
    }
}

/// A room version that this node does not speak.
#[derive(Debug, thiserror::Error)]
#[error("room version {0} is not supported here; supported are 6 to 12")]
pub struct UnsupportedRoomVersion(pub RoomVersionId);

/// The version of a room whose creator names none.
pub const DEFAULT: RoomVersionId = RoomVersionId::V12;

/// The versions that [`rules`] knows, oldest first.
pub const SUPPORTED: [RoomVersionId; 7] = [
    RoomVersionId::V6,
    RoomVersionId::V7,
    RoomVersionId::V8,
    RoomVersionId::V9,
    RoomVersionId::V10,
    RoomVersionId::V11,
    RoomVersionId::V12,
];

/// The rules of a room version.
///
/// # Errors
/// When the version is not one of 6 to 12.
pub fn rules(version: &RoomVersionId) -> Result<&'static RoomRules, UnsupportedRoomVersion> {
    Ok(match version {
        RoomVersionId::V6 => &V6,
        RoomVersionId::V7 => &V7,
        RoomVersionId::V8 => &V8,
        RoomVersionId::V9 => &V9,
        RoomVersionId::V10 => &V10,
        RoomVersionId::V11 => &V11,
        RoomVersionId::V12 => &V12,
        other => return Err(UnsupportedRoomVersion(other.clone())),
    })
}

const fn v2_0(version: RoomVersionId, room: RoomVersionRules) -> RoomRules {
    RoomRules { version, room, state_res: StateResolutionV2Rules::V2_0 }
}

static V6: RoomRules = v2_0(RoomVersionId::V6, RoomVersionRules::V6);
static V7: RoomRules = v2_0(RoomVersionId::V7, RoomVersionRules::V7);
static V8: RoomRules = v2_0(RoomVersionId::V8, RoomVersionRules::V8);
static V9: RoomRules = v2_0(RoomVersionId::V9, RoomVersionRules::V9);
static V10: RoomRules = v2_0(RoomVersionId::V10, RoomVersionRules::V10);
static V11: RoomRules = v2_0(RoomVersionId::V11, RoomVersionRules::V11);
static V12: RoomRules =
    RoomRules { version: RoomVersionId::V12, room: RoomVersionRules::V12, state_res: StateResolutionV2Rules::V2_1 };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_supported_version_has_the_state_resolution_that_ruma_gives_it() {
        for version in SUPPORTED {
            let rules = rules(&version).unwrap();
            assert_eq!(rules.version, version);
            assert_eq!(rules.room.state_res.v2_rules(), Some(&rules.state_res));
        }
    }

    #[test]
    fn versions_outside_6_to_12_are_refused_by_name() {
        for version in [RoomVersionId::V1, RoomVersionId::V5, "org.example.13".try_into().unwrap()] {
            let error = rules(&version).unwrap_err();
            assert!(error.to_string().contains(version.as_str()));
        }
    }
}
