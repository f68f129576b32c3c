//! State groups.

use std::borrow::Cow;

use millpond_matrix::number;

use super::{EventShort, StateGroup, StateKeyShort};
use crate::value::Value;

/// A state group: its parent's state with some entries changed. Encoded as `parent (0: none) | depth | (key | event (0: none))
/// ...`, LEB128 all of them: a room's whole state is a long row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateGroupRow {
    /// The group that this one changes; none: this one is whole.
    pub parent: Option<StateGroup>,
    /// How many states there were since the whole one; a parent's is less.
    pub depth: u32,
    /// The entries that differ; none removes the entry.
    pub changes: Vec<(StateKeyShort, Option<EventShort>)>,
}

impl Value for StateGroupRow {
    fn encode(&self) -> Cow<'_, [u8]> {
        let mut out = Vec::with_capacity(8 + 7 * self.changes.len());
        number::write(&mut out, self.parent.map_or(0, |parent| parent.0));
        number::write(&mut out, self.depth.into());
        for (key, event) in &self.changes {
            number::write(&mut out, key.0);
            number::write(&mut out, event.map_or(0, |event| event.0));
        }
        out.into()
    }

    fn decode(mut bytes: &[u8]) -> Result<Self, String> {
        let number = |bytes: &mut &[u8]| number::read(bytes).ok_or("state group is cut short");
        let parent = Some(number(&mut bytes)?).filter(|n| *n != 0).map(StateGroup);
        let depth = u32::try_from(number(&mut bytes)?).map_err(|_| "state group of an impossible depth")?;
        let mut changes = Vec::with_capacity(bytes.len() / 6);
        while !bytes.is_empty() {
            let (key, event) = (number(&mut bytes)?, number(&mut bytes)?);
            changes.push((StateKeyShort(key), Some(event).filter(|n| *n != 0).map(EventShort)));
        }
        Ok(Self { parent, depth, changes })
    }
}
