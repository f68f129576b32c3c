//! Finding users (client-server API, "User Directory"): an index of the words of names, kept in the commit of the member
//! event that shows a name. Who searches finds only users whom he shares a room with, or who are in a public one.

use std::ops::Bound;

use millpond_store::{View, WriteTxn, job, rows::RoomShort, tables};
use ruma::{OwnedMxcUri, OwnedUserId, UserId};
use serde::Deserialize;

use crate::{Core, Error, rooms::current, shared_rooms::joined_rooms, timeline::reader::ignored};

/// The user directory. Cloning is cheap.
#[derive(Clone)]
pub struct UserDirectory {
    core: Core,
}

/// A user who was found, with what a room shows of him that the searcher may look into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The user.
    pub user_id: OwnedUserId,
    /// His name.
    pub display_name: Option<String>,
    /// His picture.
    pub avatar_url: Option<OwnedMxcUri>,
}

#[derive(Default, Deserialize)]
struct Shown {
    displayname: Option<String>,
    avatar_url: Option<OwnedMxcUri>,
}

impl UserDirectory {
    /// The service over `core`.
    pub fn new(core: Core) -> Self {
        Self { core }
    }

    /// Users whose name or id has words that begin with all words of `term`, `limit` at most, and whether there are more.
    ///
    /// # Errors
    /// Storage errors.
    pub fn search(&self, searcher: &UserId, term: &str, limit: usize) -> Result<(Vec<Found>, bool), Error> {
        let wanted = words(term);
        // The longest word is the rarest, mostly. The server of a whole user id leads nowhere.
        let own = match term.trim().strip_prefix('@').and_then(|id| id.split_once(':')) {
            Some((localpart, _)) => words(localpart),
            None => wanted.clone(),
        };
        let Some(key) = own.iter().max_by_key(|word| word.len()) else { return Ok((Vec::new(), false)) };
        let limit = limit.clamp(1, LIMIT_MAX);
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let ignored = ignored(view, searcher)?;
        let own_rooms = joined_rooms(view, searcher)?;
        let (mut found, mut seen): (Vec<Found>, Vec<OwnedUserId>) = (Vec::new(), Vec::new());
        let end = format!("{key}{}", char::MAX);
        let rows = view.range(tables::DIRECTORY_WORDS, Bound::Included(key.as_str()), Bound::Excluded(end.as_str()))?;
        for (visited, row) in rows.enumerate() {
            let (_, user) = row?;
            if visited == VISITS_MAX {
                return Ok((found, true));
            }
            if user == searcher || ignored.contains(&user) || seen.contains(&user) {
                continue;
            }
            seen.push(user.clone());
            let Some(shown) = shown(view, &own_rooms, &user)? else { continue };
            if !matches(&wanted, shown.displayname.as_deref(), &user) {
                continue;
            }
            if found.len() == limit {
                return Ok((found, true));
            }
            found.push(Found { user_id: user, display_name: shown.displayname, avatar_url: shown.avatar_url });
        }
        Ok((found, false))
    }

    /// Fills the index of a database from before there was one. Dropping the future leaves it half done; it begins again
    /// with the next start.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn build(&self) -> Result<(), Error> {
        if self.core.snapshot()?.view().contains(tables::META, BUILT)? {
            return Ok(());
        }
        let mut after: Option<(OwnedUserId, RoomShort)> = None;
        loop {
            let (slice, last) = self.slice(after.as_ref())?;
            let done = last.is_none();
            let write = job(
                |_| Ok::<_, Error>(()),
                move |(), txn| {
                    for (user, name) in &slice {
                        note(txn, user, name.as_deref())?;
                    }
                    if done { txn.put(tables::META, BUILT, &vec![1]) } else { Ok(()) }
                },
            );
            self.core.write(write).await?;
            match last {
                Some(last) => after = Some(last),
                None => return Ok(()),
            }
        }
    }

    /// The next joined members with their names, and where to go on.
    #[allow(clippy::type_complexity, reason = "one caller, which takes it apart at once")]
    fn slice(
        &self,
        after: Option<&(OwnedUserId, RoomShort)>,
    ) -> Result<(Vec<(OwnedUserId, Option<String>)>, Option<(OwnedUserId, RoomShort)>), Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let low = match after {
            Some((user, room)) => Bound::Excluded((&**user, *room)),
            None => Bound::<(&UserId, RoomShort)>::Unbounded,
        };
        let (mut names, mut last) = (Vec::new(), None);
        for row in view.range(tables::MEMBERSHIPS, low, Bound::<(&UserId, RoomShort)>::Unbounded)?.take(SLICE) {
            let ((user, room), row) = row?;
            if row.membership == ruma::events::room::member::MembershipState::Join {
                let shown: Option<Shown> = current::content(view, room, "m.room.member", user.as_str())?;
                names.push((user.clone(), shown.unwrap_or_default().displayname));
            }
            last = Some((user, room));
        }
        Ok((names, last))
    }
}

/// Notes the name that a member event shows, so that the user is found by it.
pub(crate) fn note(
    txn: &mut WriteTxn<'_>,
    user: &UserId,
    display_name: Option<&str>,
) -> Result<(), millpond_store::Error> {
    let name = display_name.unwrap_or_default();
    if txn.view().get(tables::DIRECTORY_NAMES, user)?.as_deref() == Some(name) {
        return Ok(());
    }
    forget(txn, user)?;
    for word in indexed(name, user) {
        txn.put(tables::DIRECTORY_WORDS, format!("{word} {user}"), &user.to_owned())?;
    }
    txn.put(tables::DIRECTORY_NAMES, user, &name.to_owned())
}

/// Takes a user out of the index.
pub(crate) fn forget(txn: &mut WriteTxn<'_>, user: &UserId) -> Result<(), millpond_store::Error> {
    let Some(name) = txn.view().get(tables::DIRECTORY_NAMES, user)? else { return Ok(()) };
    for word in indexed(&name, user) {
        txn.remove(tables::DIRECTORY_WORDS, format!("{word} {user}"))?;
    }
    txn.remove(tables::DIRECTORY_NAMES, user).map(drop)
}

/// What a room shows of a user: one that both are in, or else a public one.
fn shown(view: View<'_>, own_rooms: &[RoomShort], user: &UserId) -> Result<Option<Shown>, Error> {
    let theirs = joined_rooms(view, user)?;
    let shared = theirs.iter().find(|room| own_rooms.contains(room));
    let room = match shared {
        Some(room) => Some(*room),
        None => public(view, &theirs)?,
    };
    let Some(room) = room else { return Ok(None) };
    Ok(Some(current::content(view, room, "m.room.member", user.as_str())?.unwrap_or_default()))
}

/// A room of these that anybody may enter or look into.
fn public(view: View<'_>, rooms: &[RoomShort]) -> Result<Option<RoomShort>, Error> {
    #[derive(Default, Deserialize)]
    struct Rule {
        #[serde(default)]
        join_rule: String,
    }
    for room in rooms.iter().take(ROOMS_MAX) {
        let rule: Option<Rule> = current::content(view, *room, "m.room.join_rules", "")?;
        if rule.is_some_and(|rule| rule.join_rule == "public") || crate::directory::is_world_readable(view, *room)? {
            return Ok(Some(*room));
        }
    }
    Ok(None)
}

fn matches(wanted: &[String], display_name: Option<&str>, user: &UserId) -> bool {
    let mut have = words(display_name.unwrap_or_default());
    have.extend(words(user.as_str()));
    wanted.iter().all(|word| have.iter().any(|own| own.starts_with(word)))
}

/// The words that lead to a user: those of his name and of his localpart. The server's name is that of too many.
fn indexed(name: &str, user: &UserId) -> Vec<String> {
    let mut all = words(name);
    all.extend(words(user.localpart()));
    all.sort_unstable();
    all.dedup();
    all
}

/// The words of a text in lower case. The numbers of them and of their letters are bounded: others choose their names.
fn words(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).take(WORDS_MAX);
    words.map(|word| word.to_lowercase().chars().take(LETTERS_MAX).collect()).collect()
}

/// In `META`: the index holds all that was here before it.
const BUILT: &str = "user_directory";
/// Memberships of one job while the index is built.
const SLICE: usize = 200;
/// Users of an answer at most (the specification leaves it to us).
const LIMIT_MAX: usize = 50;
/// Index entries that one search looks at.
const VISITS_MAX: usize = 5_000;
/// Rooms of a stranger that are looked at to find a public one.
const ROOMS_MAX: usize = 50;
/// Words of a name and letters of a word that are kept.
const WORDS_MAX: usize = 16;
const LETTERS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_lowered_split_at_what_is_no_letter_and_bounded() {
        assert_eq!(words("Alice O'Hara-Smith 2"), ["alice", "o", "hara", "smith", "2"]);
        assert_eq!(words("@bob:there.example"), ["bob", "there", "example"]);
        assert_eq!(words(" \u{c4}rger "), ["\u{e4}rger"]);
        assert!(words("...").is_empty());
        assert_eq!(words(&"a b ".repeat(100)).len(), WORDS_MAX);
        assert_eq!(words(&"x".repeat(1000))[0].len(), LETTERS_MAX);
    }
}
