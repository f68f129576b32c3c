//! Requests that ruma has no type for: path, query and body as they came.

use std::net::IpAddr;

use axum::{body::Body, extract::Query};
use bytes::Bytes;
use http::{Method, Request, Uri};
use millpond_node::{Error, NodeHandle};
use ruma::api::error::ErrorKind;
use serde::de::DeserializeOwned;

use super::{
    JSON_LIMIT,
    args::{Arguments, path_args},
    auth::{ClientAddr, Scheme},
    body,
};

/// A request as it came, authenticated by the scheme `A`.
pub struct Plain<A: Scheme> {
    /// Who sends it.
    pub sender: A::Who,
    /// The body; `{}` where there was none.
    pub json: Bytes,
    /// The address that the connection comes from, if it has one.
    pub address: Option<IpAddr>,
    uri: Uri,
    path_args: Vec<String>,
}

impl<A: Scheme> Plain<A> {
    /// A variable of the path, by its place.
    ///
    /// # Errors
    /// 400 `M_INVALID_PARAM` for what does not parse.
    pub fn path<T: TryFrom<String, Error: std::fmt::Display>>(&self, at: usize) -> Result<T, Error> {
        let value = self.path_args.get(at).cloned().unwrap_or_default();
        T::try_from(value).map_err(|e| Error::invalid_param(format!("The path is not as it should be: {e}")))
    }

    /// The query.
    ///
    /// # Errors
    /// 400 `M_MISSING_PARAM` or `M_INVALID_PARAM`.
    pub fn query<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let query = Query::try_from_uri(&self.uri).map_err(|e| e.body_text());
        query.map(|Query(query)| query).map_err(|text| match text.contains("missing field") {
            true => missing(format!("The request lacks something: {text}")),
            false => Error::invalid_param(format!("The query is not as it should be: {text}")),
        })
    }

    /// The body.
    ///
    /// # Errors
    /// 400 `M_MISSING_PARAM` or `M_BAD_JSON`.
    pub fn body<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.json).map_err(|e| match e.to_string() {
            text if text.starts_with("missing field") => missing(format!("The request lacks something: {text}")),
            text => Error::bad_json(format!("The request body is not as it should be: {text}")),
        })
    }
}

impl<A: Scheme> Arguments for Plain<A> {
    async fn read(node: &NodeHandle, request: Request<Body>) -> Result<Self, Error> {
        let sender = A::who(node, &request)?;
        let (mut parts, body) = request.into_parts();
        let json = match parts.method {
            Method::GET => Bytes::new(),
            _ => body::read_json(body, JSON_LIMIT).await?,
        };
        let address = parts.extensions.get::<ClientAddr>().map(|address| address.0);
        let path_args = path_args(&mut parts).await?;
        Ok(Self { sender, json, address, uri: parts.uri, path_args })
    }
}

fn missing(message: String) -> Error {
    Error::matrix(http::StatusCode::BAD_REQUEST, ErrorKind::MissingParam, message)
}
