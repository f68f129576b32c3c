//! `tests/spec/endpoints.tsv`, a copy of the specification's operations as a table.

use http::Method;

const TABLE: &str = include_str!("../../spec/endpoints.tsv");

/// One operation of the client-server API.
#[derive(Clone, Debug)]
pub struct Operation {
    /// The method.
    pub method: Method,
    /// The path with its variables in braces.
    pub path: String,
    /// The OpenAPI operation id.
    pub id: &'static str,
    /// Whether it needs an access token.
    pub auth: Auth,
    /// Whether it is rate limited.
    pub limited: bool,
}

/// Whether an operation needs an access token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Yes.
    Needed,
    /// It takes one.
    Optional,
    /// No.
    None,
}

impl Operation {
    /// How `docs/api-coverage.md` calls it: two operations may share method and path.
    pub fn name(&self) -> String {
        format!("{} {} {}", self.method, self.path, self.id)
    }

    /// Whether it is one of the downloads without a token.
    pub fn is_frozen(&self) -> bool {
        ["download", "thumbnail"].iter().any(|what| self.path.starts_with(&format!("/_matrix/media/v3/{what}/")))
    }

    /// Whether a body of it is JSON.
    pub fn takes_json(&self) -> bool {
        let bytes = self.path.starts_with("/_matrix/media/v3/upload");
        [Method::POST, Method::PUT].contains(&self.method) && !bytes
    }
}

/// The client-server operations.
pub fn operations() -> Vec<Operation> {
    let mut lines = TABLE.lines();
    let columns: Vec<_> = lines.next().unwrap().split('\t').collect();
    let column = |name: &str| columns.iter().position(|column| *column == name).unwrap();
    let [api, method, path, id, auth, limited] =
        ["api", "method", "path", "operation_id", "auth", "rate_limited"].map(column);
    lines
        .map(|line| line.split('\t').collect::<Vec<_>>())
        .filter(|cells| cells[api] == "client-server")
        .map(|cells| Operation {
            method: cells[method].parse().unwrap(),
            path: cells[path].to_owned(),
            id: cells[id],
            auth: match cells[auth] {
                "yes" => Auth::Needed,
                "optional" => Auth::Optional,
                "no" => Auth::None,
                other => panic!("auth is {other:?}"),
            },
            limited: cells[limited] == "yes",
        })
        .collect()
}
