//! A connection that is answered from what changed is told what one is told whose rooms are all looked at.

use serde_json::{Value, json};

use crate::{
    harness::{TestNode, TestUser},
    room::{escape, path},
};

struct Stage {
    node: TestNode,
    alice: TestUser,
    bob: TestUser,
    rooms: Vec<String>,
    state: u64,
    last: String,
}

impl Stage {
    async fn new(seed: u64) -> Self {
        let node = TestNode::new();
        let (alice, bob) = (node.user("alice").await, node.user("bob").await);
        let mut rooms = Vec::new();
        for n in 0..8 {
            let room = node.room(&alice, json!({ "preset": "public_chat", "name": format!("room {n}") })).await;
            node.join(&bob, &room).await;
            rooms.push(room);
        }
        Self { node, alice, bob, rooms, state: seed + 1, last: String::new() }
    }

    /// A number below another (xorshift64*).
    fn below(&mut self, end: u64) -> usize {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        usize::try_from(self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33).unwrap() % usize::try_from(end).unwrap()
    }

    /// Something that people do.
    async fn act(&mut self) {
        let (room, act) = (self.below(8), self.below(13));
        let room = self.rooms[room].clone();
        let (node, alice, bob) = (&self.node, &self.alice, &self.bob);
        let user = format!("/_matrix/client/v3/user/{}", alice.id);
        // What the state of the room does not allow is refused: that is something that people do as well.
        match act {
            0..4 => self.last = node.text(bob, &self.rooms[0], "zero").await,
            4 => drop(node.put(alice, path(&room, "send/m.room.message/x"), json!({ "body": "again" })).await),
            5 => drop(node.put(bob, path(&room, &format!("typing/{}", bob.id)), json!({ "typing": true })).await),
            6 => drop(node.post(bob, path(&room, &format!("receipt/m.read/{}", escape(&self.last))), json!({})).await),
            7 => drop(node.post(alice, path(&room, "leave"), json!({})).await),
            8 => drop(node.post(alice, path(&room, "join"), json!({})).await),
            9 => drop(node.put(alice, format!("{user}/account_data/m.direct"), json!({ "@b:here": [room] })).await),
            10 => drop(node.put(alice, format!("{user}/rooms/{}/tags/u.a", escape(&room)), json!({})).await),
            11 => drop(node.put(alice, path(&room, "state/m.room.name"), json!({ "name": "another" })).await),
            _ => drop(node.put(bob, path(&room, "state/m.room.topic"), json!({ "topic": "no power" })).await),
        }
    }

    /// What both connections ask; `anew` gives the second rules that it never had, so that nothing is kept for it.
    fn ask(&mut self, step: u64) -> [Value; 2] {
        let required = json!([["m.room.name", ""], ["m.room.member", "$LAZY"]]);
        let last = [2, 2, 2, 5, 20][self.below(5)];
        let list = json!({ "ranges": [[0, last]], "timeline_limit": 2, "required_state": required });
        let mut direct = list.clone();
        direct["filters"] = json!({ "is_dm": true });
        direct["ranges"] = json!([[0, 0], [2, 9]]);
        let on = json!({ "enabled": true });
        let extensions = json!({ "account_data": on, "receipts": on, "typing": on, "e2ee": on });
        let ask = |conn: &str| json!({ "conn_id": conn, "lists": { "all": list, "direct": direct }, "extensions": extensions });
        let mut anew = ask("anew");
        anew["lists"]["nothing"] = json!({ "ranges": [[900 + step, 999]], "timeline_limit": 1 });
        [ask("kept"), anew]
    }
}

#[tokio::test]
async fn what_changed_is_told_as_if_all_rooms_had_been_looked_at() {
    for seed in 0..6 {
        let mut stage = Stage::new(seed).await;
        let mut pos = [Value::Null, Value::Null];
        let mut before = pos.clone();
        for step in 0..60 {
            for _ in 0..stage.below(3) {
                stage.act().await;
            }
            let asked = stage.ask(step);
            // Now and then an answer is lost, and the client asks as it did.
            if stage.below(10) == 0 {
                pos = before.clone();
            }
            let mut answers = Vec::new();
            for (pos, ask) in pos.iter().zip(&asked) {
                answers.push(stage.node.slide(&stage.alice, pos, ask).await);
            }
            before = std::mem::replace(&mut pos, [answers[0]["pos"].clone(), answers[1]["pos"].clone()]);
            let counts = |answer: &Value| [answer["lists"]["all"].clone(), answer["lists"]["direct"].clone()];
            assert_eq!(counts(&answers[0]), counts(&answers[1]), "seed {seed}, step {step}");
            for part in ["rooms", "extensions"] {
                assert_eq!(answers[0][part], answers[1][part], "seed {seed}, step {step}: {part}");
            }
        }
    }
}
