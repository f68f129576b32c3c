//! The conformance gate: every client-server operation of the specification (`tests/spec/endpoints.tsv`) is asked over a
//! real socket with a wrong method, without a token, with a bad one, with a bad body, too often and with a right request. What is
//! answered is held against `docs/api-coverage.md`, which lists every operation, and against the specification's schemas.

mod coverage;
mod right;
mod shapes;
mod stage;
mod table;
pub mod wire;

use std::collections::{BTreeMap, BTreeSet};

use http::{Method, StatusCode};
use serde_json::Value;

use self::{
    coverage::State,
    right::Expected,
    stage::Stage,
    table::{Auth, Operation},
    wire::Got,
};

/// What is wrong, all of it at once: one line each.
#[derive(Default)]
struct Complaints(Vec<String>);

impl Complaints {
    fn note(&mut self, operation: &Operation, what: impl std::fmt::Display) {
        self.0.push(format!("{} {} ({}): {what}", operation.method, operation.path, operation.id));
    }

    fn end(self) {
        assert!(self.0.is_empty(), "{} complaints:\n{}", self.0.len(), self.0.join("\n"));
    }
}

fn expect(complaints: &mut Complaints, operation: &Operation, asked: &str, got: &Got, status: u16, errcode: &str) {
    if got.status != status || got.json["errcode"] != errcode || got.json["error"].as_str().is_none_or(str::is_empty) {
        complaints.note(operation, format!("{asked}: expected {status} {errcode}, got {} {}", got.status, got.json));
    }
}

#[test]
fn every_operation_is_listed_once_and_nothing_else() {
    let operations = table::operations();
    assert_eq!(operations.len(), 166, "the client-server operations of Matrix 1.19");
    let listed = coverage::listed();
    let known: BTreeSet<_> = operations.iter().map(|operation| operation.name()).collect();
    let named: BTreeSet<_> = listed.keys().cloned().collect();
    assert_eq!(named, known, "docs/api-coverage.md and tests/spec/endpoints.tsv name the same operations");
}

#[test]
fn the_tests_that_the_list_names_exist() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it");
    for (name, line) in coverage::listed() {
        if line.state == State::Works {
            for file in &line.tests {
                let path = format!("{folder}/{file}");
                assert!(std::path::Path::new(&path).is_file(), "{name}: {path} is not there");
            }
            assert!(!line.tests.is_empty(), "{name} works, but no test file is named");
        }
    }
}

#[tokio::test]
async fn a_wrong_method_is_405() {
    let stage = Stage::new().await;
    let mut complaints = Complaints::default();
    let mut taken: BTreeMap<String, BTreeSet<Method>> = BTreeMap::new();
    for operation in table::operations() {
        taken.entry(operation.path.clone()).or_default().insert(operation.method);
    }
    let listed = coverage::listed();
    let mut asked = BTreeSet::new();
    for operation in table::operations() {
        if listed[&operation.name()].state == State::NotBuilt || !asked.insert(operation.path.clone()) {
            continue;
        }
        let path = right::right(&stage, &operation).await.path;
        for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
            if taken[&operation.path].contains(&method) || right::also_takes(operation.id, &method) {
                continue;
            }
            let got = stage.wire.ask(&method, &path, Some(&stage.alice.token), "{}").await;
            expect(&mut complaints, &operation, method.as_str(), &got, 405, "M_UNRECOGNIZED");
        }
    }
    complaints.end();
}

#[tokio::test]
async fn without_a_token_or_with_a_bad_one_it_is_401() {
    let stage = Stage::new().await;
    let mut complaints = Complaints::default();
    for operation in built() {
        let ask = right::right(&stage, &operation).await;
        if operation.auth == Auth::Needed {
            let got = stage.wire.ask(&operation.method, &ask.path, None, ask.body.clone()).await;
            expect(&mut complaints, &operation, "no token", &got, 401, "M_MISSING_TOKEN");
        }
        if operation.auth != Auth::None {
            let got = stage.wire.ask(&operation.method, &ask.path, Some("nonsense"), ask.body).await;
            expect(&mut complaints, &operation, "a bad token", &got, 401, "M_UNKNOWN_TOKEN");
        }
    }
    complaints.end();
}

#[tokio::test]
async fn a_bad_body_is_400() {
    let stage = Stage::new().await;
    let mut complaints = Complaints::default();
    for operation in built().filter(Operation::takes_json) {
        let ask = right::right(&stage, &operation).await;
        let bodies = [("nonsense", "M_NOT_JSON"), ("{\"a\": ", "M_NOT_JSON"), ("{\"a\": \"\u{1}\"}", "M_NOT_JSON")];
        for (body, errcode) in bodies.into_iter().chain([("[1]", "M_BAD_JSON")]) {
            let got = stage.wire.ask(&operation.method, &ask.path, ask.token.as_deref(), body).await;
            expect(&mut complaints, &operation, body, &got, 400, errcode);
        }
    }
    complaints.end();
}

#[tokio::test]
async fn a_right_request_is_answered_in_the_shape_of_the_specification() {
    let stage = Stage::new().await;
    let (mut complaints, listed) = (Complaints::default(), coverage::listed());
    let shapes = shapes::all();
    for operation in table::operations() {
        let ask = right::right(&stage, &operation).await;
        let got = stage.wire.ask(&operation.method, &ask.path, ask.token.as_deref(), ask.body).await;
        let unrouted = [404, 405].contains(&got.status) && got.json["errcode"] == "M_UNRECOGNIZED";
        match (listed[&operation.name()].state, &ask.expected) {
            (State::NotBuilt, _) if unrouted => {}
            (State::NotBuilt, _) => complaints.note(&operation, "is answered, but listed as not built yet"),
            (_, _) if unrouted => complaints.note(&operation, "is not routed, but listed as there"),
            (State::Works, Expected::Shape) => {
                if got.status != StatusCode::OK {
                    complaints.note(&operation, format!("expected 200, got {} {}", got.status, got.json));
                } else if let Some(shape) = shapes.get(operation.id)
                    && let Err(why) = shapes::fits(&got.json, shape)
                {
                    complaints.note(&operation, format!("{why} in {}", got.json));
                }
            }
            (State::Works, Expected::Bytes) if got.status == StatusCode::OK && got.json == Value::Null => {}
            (State::Refuses, Expected::Refusal(status, errcode)) => {
                expect(&mut complaints, &operation, "a right request", &got, *status, errcode);
            }
            (state, expected) => {
                let what =
                    format!("listed as {state:?}, the gate expects {expected:?}, got {} {}", got.status, got.json);
                complaints.note(&operation, what);
            }
        }
    }
    complaints.end();
}

#[tokio::test]
async fn what_the_specification_marks_is_counted_and_told_how_long_to_wait() {
    let stage = Stage::with(|config| config.rate_limits = true).await;
    let (mut complaints, token) = (Complaints::default(), Some(&*stage.alice.token));
    let mut asks = Vec::new();
    // Those that are frozen do nothing, and are not counted.
    for operation in built().filter(|operation| operation.limited && !operation.is_frozen()) {
        asks.push((right::right(&stage, &operation).await, operation));
    }
    assert!(asks.len() > 60, "{}", asks.len());
    // The buckets of a device, of its downloads, and of an address without an account.
    let emptying = [
        ("/_matrix/client/v3/account/whoami", token),
        ("/_matrix/client/v1/media/config", token),
        ("/_matrix/client/v3/login", None),
    ];
    for (path, token) in emptying {
        let mut asked = 0;
        while stage.wire.ask(&Method::GET, path, token, "").await.status == 200 {
            asked += 1;
            assert!(asked < 2_000, "{path} is not counted");
        }
    }
    for (ask, operation) in asks {
        let token = token.filter(|_| operation.auth != Auth::None);
        let got = stage.wire.ask(&operation.method, &ask.path, token, ask.body).await;
        expect(&mut complaints, &operation, "once too often", &got, 429, "M_LIMIT_EXCEEDED");
        if got.json["retry_after_ms"].as_u64().is_none_or(|wait| wait == 0) {
            complaints.note(&operation, format!("no time to wait: {}", got.json));
        }
    }
    complaints.end();
}

/// The operations that are there.
fn built() -> impl Iterator<Item = Operation> {
    let listed = coverage::listed();
    table::operations().into_iter().filter(move |operation| listed[&operation.name()].state != State::NotBuilt)
}
