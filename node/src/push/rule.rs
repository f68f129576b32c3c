//! What a user's push rules say about one event.

use futures::FutureExt as _;
use millpond_matrix::client::{Unsigned, write_client_event};
use millpond_store::{
    View,
    rows::{EventRow, RoomShort},
    tables,
};
use ruma::{
    OwnedUserId, UInt, UserId,
    events::room::power_levels::{RoomPowerLevels, RoomPowerLevelsEventContent, RoomPowerLevelsSource},
    push::{Action, PushConditionRoomCtx, Ruleset},
    serde::Raw,
};
use serde::Deserialize;

use crate::{
    Error,
    rooms::{current, rows},
};

/// Knows of a room what rules may ask about: member count, the user's name there, power levels.
pub(super) struct Judge {
    context: PushConditionRoomCtx,
}

/// The rules' answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) notifies: bool,
    pub(super) highlights: bool,
}

#[derive(Deserialize)]
struct Member {
    displayname: Option<String>,
}

#[derive(Deserialize)]
struct Create {
    #[serde(default)]
    additional_creators: Vec<OwnedUserId>,
}

impl Judge {
    pub(super) fn new(view: View<'_>, room: RoomShort, user: &UserId) -> Result<Self, Error> {
        let row = view.get(tables::ROOMS, room)?.ok_or_else(|| rows::dangling("ROOMS", room.0))?;
        let counts = view.get(tables::ROOM_COUNTS, room)?.unwrap_or_default();
        let member: Option<Member> = current::content(view, room, "m.room.member", user.as_str())?;
        let name = member.and_then(|member| member.displayname).unwrap_or_else(|| user.localpart().to_owned());
        let joined = UInt::new_saturating(counts.joined);
        let mut context = PushConditionRoomCtx::new(row.room_id, joined, user.to_owned(), name);
        if let Some(rules) = row.version.rules() {
            let levels: Option<RoomPowerLevelsEventContent> = current::content(view, room, "m.room.power_levels", "")?;
            let source = levels.map_or(RoomPowerLevelsSource::None, RoomPowerLevelsSource::Original);
            let levels = RoomPowerLevels::new(source, &rules.authorization, creators(view, room)?);
            context = context.with_power_levels(levels.into());
        }
        Ok(Self { context })
    }

    pub(super) fn verdict(&self, rules: &Ruleset, event: &EventRow) -> Verdict {
        let actions = self.actions(rules, event);
        Verdict {
            notifies: actions.iter().any(Action::should_notify),
            highlights: actions.iter().any(Action::is_highlight),
        }
    }

    /// The actions of the rule that matches the event; none where none does.
    pub(super) fn actions(&self, rules: &Ruleset, event: &EventRow) -> Vec<Action> {
        let mut json = Vec::new();
        let unsigned = Unsigned::default();
        write_client_event(&mut json, &event.header, &event.json, Some(&self.context.room_id), &unsigned);
        String::from_utf8(json).map(|json| self.actions_of_json(rules, json)).unwrap_or_default()
    }

    /// The same for an event in the client's form.
    pub(super) fn actions_of_json(&self, rules: &Ruleset, json: String) -> Vec<Action> {
        let Ok(raw) = Raw::<()>::from_json_string(json) else { return Vec::new() };
        // The only condition that would wait asks for thread subscriptions, which we do not offer.
        rules.get_actions(&raw, &self.context).now_or_never().unwrap_or_default().to_vec()
    }
}

/// Who made the room, as room versions 12 and later understand it.
fn creators(view: View<'_>, room: RoomShort) -> Result<Vec<OwnedUserId>, Error> {
    let Some(event) = current::entry_row(view, room, "m.room.create", "")? else { return Ok(Vec::new()) };
    let content: Option<Create> = serde_json::from_str(event.header.content.of(&event.json)).ok();
    let mut creators = content.map(|content| content.additional_creators).unwrap_or_default();
    creators.extend(serde_json::from_str::<OwnedUserId>(event.header.sender.of(&event.json)));
    Ok(creators)
}
