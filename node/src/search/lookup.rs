//! From the words of a search to the events that have them all. A word stands for itself and for longer words that begin
//! with it. Nothing here reads an event: the lists are enough.

use std::{
    collections::{BTreeSet, HashSet},
    ops::Bound,
};

use millpond_store::{
    Error, View,
    rows::{EventShort, Posting, Postings, RoomShort},
    tables,
};

/// An event that has all words.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Hit {
    pub(super) event: EventShort,
    pub(super) room: RoomShort,
    pub(super) ts_ms: u64,
    /// How closely it matches; higher is closer.
    pub(super) score: f32,
}

/// What the words of a search lead to.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Ordered by event.
    pub(super) hits: Vec<Hit>,
    /// The words that were found in the index, for highlighting.
    pub(super) matched: BTreeSet<String>,
}

/// Looks up events of `rooms` that have all `words` in one of the fields of the mask.
pub(super) fn lookup(view: View<'_>, words: &[String], fields: u8, rooms: &HashSet<RoomShort>) -> Result<Found, Error> {
    let events = view.position()?.0.max(1);
    let mut found = Found::default();
    for (n, word) in words.iter().enumerate() {
        let (mut hits, matched) = hits(view, word, fields, rooms)?;
        found.matched.extend(matched);
        let rarity = (1.0 + events as f32 / hits.len().max(1) as f32).ln();
        hits.iter_mut().for_each(|hit| hit.score *= rarity);
        found.hits = if n == 0 { hits } else { both(&found.hits, &hits) };
        if found.hits.is_empty() {
            break;
        }
    }
    Ok(found)
}

/// The events with one word, ordered, and the words that it stood for.
fn hits(
    view: View<'_>,
    word: &str,
    fields: u8,
    rooms: &HashSet<RoomShort>,
) -> Result<(Vec<Hit>, BTreeSet<String>), Error> {
    let (mut hits, mut matched) = (Vec::new(), BTreeSet::new());
    let mut take = |found: &str, room: RoomShort, postings: Postings| {
        let closeness = if found == word { 1.0 } else { PART_OF_WORD };
        let postings = postings.0.into_iter().filter(|posting| posting.fields & fields != 0);
        let before = hits.len();
        hits.extend(postings.map(|posting| hit(room, posting, closeness)));
        if hits.len() > before && matched.len() < MATCHED_MAX && !matched.contains(found) {
            matched.insert(found.to_owned());
        }
    };
    if rooms.len() <= FEW_ROOMS {
        for room in rooms {
            for row in view.scan(tables::SEARCH_WORDS, (word, room))? {
                let ((found, room, _), postings) = row?;
                take(&found, room, postings);
            }
        }
    } else {
        for row in view.scan(tables::SEARCH_WORDS, (word,))? {
            let ((found, room, _), postings) = row?;
            if rooms.contains(&room) {
                take(&found, room, postings);
            }
        }
    }
    // The lists of longer words stand behind those of the word itself.
    let (from, to) = (format!("{word}\0"), format!("{word}{}", char::MAX));
    let key = |word: String| (word, RoomShort(0), EventShort(0));
    let longer = view.range(tables::SEARCH_WORDS, Bound::Included(key(from)), Bound::Excluded(key(to)))?;
    for row in longer.take(LONGER_BLOCKS_MAX) {
        let ((found, room, _), postings) = row?;
        if rooms.contains(&room) {
            take(&found, room, postings);
        }
    }
    // Each list is in order already, which a stable sort makes use of.
    hits.sort_by_key(|hit| hit.event);
    hits.dedup_by(|later, kept| {
        let same = later.event == kept.event;
        if same {
            kept.score = kept.score.max(later.score);
        }
        same
    });
    Ok((hits, matched))
}

fn hit(room: RoomShort, posting: Posting, closeness: f32) -> Hit {
    // The second time a word occurs says less than the first.
    let times = f32::from(posting.times);
    Hit { event: posting.event, room, ts_ms: posting.ts_ms, score: closeness * times / (times + 1.0) }
}

/// The events that are in both lists.
fn both(one: &[Hit], other: &[Hit]) -> Vec<Hit> {
    let mut others = other.iter().peekable();
    let mut kept = Vec::with_capacity(one.len().min(other.len()));
    for hit in one {
        while others.next_if(|other| other.event < hit.event).is_some() {}
        if let Some(same) = others.next_if(|other| other.event == hit.event) {
            kept.push(Hit { score: hit.score + same.score, ..*hit });
        }
    }
    kept
}

/// What a word counts that only begins with the one searched for.
const PART_OF_WORD: f32 = 0.5;
/// Rooms that are looked up one by one.
const FEW_ROOMS: usize = 32;
/// Blocks of longer words that are read for one word of a search.
const LONGER_BLOCKS_MAX: usize = 4_096;
/// Words to highlight, for one word of a search.
const MATCHED_MAX: usize = 50;
