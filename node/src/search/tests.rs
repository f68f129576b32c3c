use millpond_store::{Error as StoreError, check::check, tables};
use serde_json::Value;

use super::*;
use crate::testing::Room;

/// A room and a search over it.
struct World {
    room: Room,
    search: Search,
}

impl World {
    async fn new() -> Self {
        let room = Room::new().await;
        let search = Search::new(room.core.clone());
        Self { room, search }
    }

    async fn index(&self) {
        while self.search.step().await.unwrap() {}
    }

    async fn bodies(&self, term: &str) -> Vec<String> {
        let request = Request { term: term.to_owned(), order: Order::Recent, ..Request::default() };
        let answer = self.search.answer(self.room.alice.clone(), "D".into(), request).await.unwrap();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        let results = answer["search_categories"]["room_events"]["results"].as_array().unwrap().clone();
        results.iter().map(|result| result["result"]["content"]["body"].as_str().unwrap().to_owned()).collect()
    }

    /// The words of the index that begin so.
    fn indexed(&self, word: &str) -> Vec<String> {
        let snapshot = self.room.core.snapshot().unwrap();
        let rows: Result<Vec<_>, StoreError> = snapshot.view().scan(tables::SEARCH_WORDS, ()).unwrap().collect();
        rows.unwrap().into_iter().map(|((found, ..), _)| found).filter(|found| found.starts_with(word)).collect()
    }

    fn findings(&self) -> Vec<String> {
        check(self.room.core.snapshot().unwrap().view()).unwrap().findings
    }
}

#[tokio::test]
async fn blocks_of_a_common_word_are_split_and_each_event_is_found_once() {
    let world = World::new().await;
    for n in 0..300 {
        world.room.say(&world.room.alice, &format!("common word {n}")).await;
    }
    world.index().await;
    let snapshot = world.room.core.snapshot().unwrap();
    let blocks: Result<Vec<_>, _> = snapshot.view().scan(tables::SEARCH_WORDS, ("common",)).unwrap().collect();
    let lengths: Vec<_> = blocks.unwrap().into_iter().map(|(_, block)| block.0.len()).collect();
    assert_eq!(lengths, [256, 44]);
    assert_eq!(world.bodies("common 299").await, ["common word 299"]);
    assert!(world.findings().is_empty(), "{:?}", world.findings());
}

#[tokio::test]
async fn a_redaction_takes_the_words_out_of_the_index_before_and_after_they_were_indexed() {
    let world = World::new().await;
    let before = world.room.say(&world.room.alice, "pelican swims").await;
    world.index().await;
    let after = world.room.say(&world.room.alice, "pelican flies").await;
    assert_eq!(world.indexed("pelican"), ["pelican"]);
    world.room.redact(&world.room.alice, &before).await;
    assert!(world.indexed("pelican").is_empty() && world.indexed("swims").is_empty());
    world.room.redact(&world.room.alice, &after).await;
    world.index().await;
    assert!(world.indexed("pelican").is_empty() && world.indexed("flies").is_empty());
    assert!(world.findings().is_empty(), "{:?}", world.findings());
}

#[tokio::test]
async fn the_index_is_made_anew_when_its_rules_have_changed() {
    let world = World::new().await;
    world.room.say(&world.room.alice, "heron").await;
    world.index().await;
    let spoil = millpond_store::job(
        |_| Ok::<_, Error>(()),
        |(), txn| {
            txn.remove_all(tables::SEARCH_WORDS, ())?;
            txn.put(tables::META, "search", &[0_u8; 16].to_vec())
        },
    );
    world.room.core.write(spoil).await.unwrap();
    assert_eq!(world.bodies("heron").await, ["heron"]);
}

#[tokio::test(start_paused = true)]
async fn the_indexer_writes_what_was_said_and_then_waits() {
    let world = World::new().await;
    let stop = CancellationToken::new();
    let (search, token) = (world.search.clone(), stop.clone());
    let work = tokio::spawn(async move { search.work(token).await });
    world.room.say(&world.room.alice, "bittern").await;
    let mut commits = world.room.core.notifier().positions();
    while world.indexed("bittern").is_empty() {
        commits.mark_unchanged();
        tokio::time::timeout(GATHER * 3, commits.changed()).await.ok();
    }
    stop.cancel();
    work.await.unwrap().unwrap();
}
