//! The room policy (overlay.md section 6): whether a room's events may leave by the classic door. It stands in the content of
//! the create event, which in version 12 the room id hashes, so it is the same on every node and for ever.

use crate::{Core, Error};

/// That this node can be in a room of this policy: one that is named by its key cannot be in classic rooms, because classic
/// servers cannot reach its name.
///
/// # Errors
/// 403 with the reason in words.
pub(crate) fn check_enters(core: &Core, overlay: bool) -> Result<(), Error> {
    if overlay || core.identity().is_dns_named() {
        return Ok(());
    }
    Err(Error::forbidden(
        "that is a classic room, and this node is named by its key, which classic servers cannot reach: it can be in \
         overlay rooms only; a classic room needs a node with a DNS name",
    ))
}
