//! Unread counts of a room (client-server spec, "Receiving notifications").

use millpond_store::rows::RoomShort;

use super::answer::Sweep;
use crate::{
    Error,
    json::{any_key, object_member, plain_member},
    push::Counts,
};

/// Appends the counts: of the main timeline and each thread if the client asks for threads, else of all together.
pub(super) fn write(sweep: &Sweep<'_>, out: &mut Vec<u8>, room: RoomShort) -> Result<(), Error> {
    let unread = sweep.sync.push.unread(sweep.view, sweep.who.user, room)?;
    let threads = sweep.request.filter.room.timeline.unread_thread_notifications;
    let of_room = if threads { unread.main } else { unread.total() };
    object_member(out, "unread_notifications", |out| write_counts(out, of_room))?;
    if threads {
        object_member(out, "unread_thread_notifications", |out| {
            unread.threads.iter().try_for_each(|(root, counts)| {
                any_key(out, root.as_str());
                out.push(b'{');
                write_counts(out, *counts)?;
                out.push(b'}');
                Ok::<_, Error>(())
            })
        })?;
    }
    Ok(())
}

fn write_counts(out: &mut Vec<u8>, counts: Counts) -> Result<(), Error> {
    plain_member(out, "highlight_count", counts.highlight);
    plain_member(out, "notification_count", counts.notification);
    Ok(())
}
