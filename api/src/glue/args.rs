//! What a handler takes: the parsed request, who sends it, from where.

use std::net::IpAddr;

use axum::{body::Body, extract::RawPathParams};
use bytes::Bytes;
use http::{Method, Request, request::Parts};
use millpond_node::{Error, NodeHandle, accounts::Asked, federation::Origin};
use ruma::api::{IncomingRequest, Metadata};

use super::{
    JSON_LIMIT,
    auth::{self, ClientAddr, Scheme},
    body, failure, lenient,
    routes::EmptyTail,
};

/// A parsed request with a JSON body of at most `LIMIT` bytes.
pub struct Args<R: Metadata<Authentication: Scheme>, const LIMIT: usize = JSON_LIMIT> {
    /// The request in ruma's words.
    pub request: R,
    /// Who sends it, as the request's authentication scheme says.
    pub sender: <R::Authentication as Scheme>::Who,
    /// The body as it came: user-interactive authentication is bound to it.
    pub json: Bytes,
    /// The path as it came.
    pub path: String,
    /// The query as it came, where there was one.
    pub query: Option<String>,
    /// The address that the connection comes from, if it has one.
    pub address: Option<IpAddr>,
    /// The server that it is proven to come from, if it is proven.
    pub peer: Option<Origin>,
}

impl<R: Metadata<Authentication: Scheme>, const LIMIT: usize> Args<R, LIMIT> {
    /// What user-interactive authentication binds its sessions to.
    pub fn asked(&self) -> Asked {
        Asked { method: R::METHOD, path: self.path.clone(), body: self.json.clone(), address: self.address }
    }
}

/// A request whose body is read by the handler.
pub struct Upload<R: Metadata<Authentication: Scheme>> {
    /// Everything but the body; `request` was parsed with an empty one.
    pub args: Args<R>,
    /// The body; the handler bounds it.
    pub body: Body,
}

/// Arguments whose request type says where the handler is registered.
pub trait Routed: Arguments {
    /// The request type.
    type Request: IncomingRequest;
}

/// The last argument of a handler.
pub trait Arguments: Sized + Send {
    /// Authenticates and parses a request.
    ///
    /// # Errors
    /// What is wrong with it, as the specification words it.
    fn read(node: &NodeHandle, request: Request<Body>) -> impl Future<Output = Result<Self, Error>> + Send;
}

impl<R, const LIMIT: usize> Arguments for Args<R, LIMIT>
where
    R: IncomingRequest + Metadata<Authentication: Scheme> + Send,
{
    async fn read(node: &NodeHandle, request: Request<Body>) -> Result<Self, Error> {
        // Authentication comes first: a stranger's body is not worth reading.
        let (sender, mut parts, body) = authenticate::<R>(node, request)?;
        let json = match R::METHOD {
            Method::GET => Bytes::new(),
            _ => body::read_json(body, LIMIT).await?,
        };
        let path_args = path_args(&mut parts).await?;
        parse(parts, sender, json, &path_args)
    }
}

impl<R, const LIMIT: usize> Routed for Args<R, LIMIT>
where
    R: IncomingRequest + Metadata<Authentication: Scheme> + Send,
{
    type Request = R;
}

impl<R> Routed for Upload<R>
where
    R: IncomingRequest + Metadata<Authentication: Scheme> + Send,
{
    type Request = R;
}

impl<R> Arguments for Upload<R>
where
    R: IncomingRequest + Metadata<Authentication: Scheme> + Send,
{
    async fn read(node: &NodeHandle, request: Request<Body>) -> Result<Self, Error> {
        let (sender, mut parts, body) = authenticate::<R>(node, request)?;
        let path_args = path_args(&mut parts).await?;
        Ok(Self { args: parse(parts, sender, Bytes::new(), &path_args)?, body })
    }
}

type Who<R> = <<R as Metadata>::Authentication as Scheme>::Who;

fn authenticate<R: Metadata<Authentication: Scheme>>(
    node: &NodeHandle,
    request: Request<Body>,
) -> Result<(Who<R>, Parts, Body), Error> {
    let sender = R::Authentication::who(node, &request)?;
    auth::limit::<R, _>(node, &request, &sender)?;
    let (parts, body) = request.into_parts();
    Ok((sender, parts, body))
}

pub(super) async fn path_args(parts: &mut Parts) -> Result<Vec<String>, Error> {
    use axum::extract::FromRequestParts;
    let matched = RawPathParams::from_request_parts(parts, &()).await;
    let matched = matched.map_err(|e| Error::invalid_param(format!("The path is not valid: {e}")))?;
    let mut values: Vec<_> = matched.iter().map(|(_, value)| value.to_owned()).collect();
    if parts.extensions.get::<EmptyTail>().is_some() {
        values.push(String::new());
    }
    Ok(values)
}

fn parse<R, const LIMIT: usize>(
    parts: Parts,
    sender: Who<R>,
    json: Bytes,
    path_args: &[String],
) -> Result<Args<R, LIMIT>, Error>
where
    R: IncomingRequest + Metadata<Authentication: Scheme>,
{
    let (path, query) = (parts.uri.path().to_owned(), parts.uri.query().map(str::to_owned));
    let address = parts.extensions.get::<ClientAddr>().map(|address| address.0);
    let peer = parts.extensions.get::<Origin>().cloned();
    let path_args: Vec<_> = path_args.iter().map(String::as_str).collect();
    let spare = lenient::may_help(&json).then(|| parts.clone());
    let mut request = R::try_from_http_request_inner(Request::from_parts(parts, json.as_ref()), &path_args);
    if request.is_err()
        && let Some(parts) = spare
        && let Some(repaired) = lenient::repaired(&json)
    {
        request = R::try_from_http_request_inner(Request::from_parts(parts, repaired.as_slice()), &path_args);
    }
    let request = request.map_err(|e| failure::deserialization(&e))?;
    Ok(Args { request, sender, json, path, query, address, peer })
}
