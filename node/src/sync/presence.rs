//! Presence in `/sync`: of those who share a room with the user, and of himself on his other devices.

use std::collections::HashSet;

use millpond_store::rows::RoomShort;

use super::answer::Sweep;
use crate::{
    Error,
    json::{comma, events_member, key, plain_member, text_member},
    presence::{Company, Shown},
    timeline::select::takes_kind,
};

/// Appends `presence`; says whether there was anything new.
pub(super) fn write(sweep: &Sweep<'_>, out: &mut Vec<u8>, joined: &HashSet<RoomShort>) -> Result<bool, Error> {
    let filter = &sweep.request.filter.presence;
    if !takes_kind(filter.types.as_deref(), &filter.not_types, "m.presence") {
        return Ok(false);
    }
    let company = Company {
        user: sweep.who.user,
        rooms: joined,
        since: sweep.since.map(|since| (since.typing, since.position.0)),
        changed: sweep.company_changed.get(),
    };
    let limit = filter.limit.map_or(usize::MAX, |limit| usize::try_from(u64::from(limit)).unwrap_or(usize::MAX));
    let news = sweep.sync.presence.news(sweep.view, &company)?;
    let taken = news.iter().filter(|(user, _)| {
        !sweep.who.ignored.contains(user)
            && !filter.not_senders.contains(user)
            && filter.senders.as_ref().is_none_or(|senders| senders.contains(user))
    });
    events_member(out, "presence", |out| {
        for (user, shown) in taken.take(limit) {
            comma(out);
            out.push(b'{');
            key(out, "content");
            out.push(b'{');
            write_content(out, shown);
            out.push(b'}');
            text_member(out, "sender", user.as_str());
            text_member(out, "type", "m.presence");
            out.push(b'}');
        }
        Ok(())
    })
}

fn write_content(out: &mut Vec<u8>, shown: &Shown) {
    text_member(out, "presence", shown.state.as_str());
    if let Some(ago) = shown.active_ago_ms {
        plain_member(out, "last_active_ago", ago);
    }
    if shown.is_active() {
        plain_member(out, "currently_active", true);
    }
    if let Some(status) = &shown.status {
        text_member(out, "status_msg", status);
    }
}
