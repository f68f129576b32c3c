//! `docs/api-coverage.md`: what it says about each operation. Lines of its table look like
//!
//! ```text
//! | `GET /_matrix/client/v3/sync` sync | works | sync.rs |
//! | `GET /_matrix/client/v3/login/sso/redirect` redirectToSSO | refuses | no identity provider is configured |
//! | `GET /_matrix/client/v3/pushers` getPushers | not built yet | |
//! ```

use std::collections::BTreeMap;

const DOCUMENT: &str = include_str!("../../../../docs/api-coverage.md");

/// What is said of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It does what the specification says; the last column names test files.
    Works,
    /// It answers a fitting error; the last column says why.
    Refuses,
    /// There is no such route.
    NotBuilt,
}

/// A line of the table.
#[derive(Clone, Debug)]
pub struct Line {
    /// The second column.
    pub state: State,
    /// The files of the third column, if it works.
    pub tests: Vec<String>,
}

/// The lines by operation.
pub fn listed() -> BTreeMap<String, Line> {
    let mut listed = BTreeMap::new();
    let table = DOCUMENT.lines().take_while(|line| !line.starts_with("## "));
    for line in table.filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [operation, state, why] = cells[..] else { panic!("not three columns: {line}") };
        let (state, tests) = match state {
            "works" => (State::Works, why.split(", ").filter(|file| !file.is_empty()).map(str::to_owned).collect()),
            "refuses" if !why.is_empty() => (State::Refuses, Vec::new()),
            "not built yet" => (State::NotBuilt, Vec::new()),
            other => panic!("{other:?} is not a state, or gives no reason: {line}"),
        };
        let name = operation.replace('`', "");
        assert!(listed.insert(name, Line { state, tests }).is_none(), "twice in the list: {line}");
    }
    listed
}
