//! FOR ONE TEST: what the egress test must find. Compiled in by the feature `deliberate-leak` only, which no release build accepts.

#[cfg(not(debug_assertions))]
compile_error!("the feature deliberate-leak is for the egress test, and never for a release build");

/// Asks the system's resolver for the host, and connects to it from here.
pub(super) async fn leak(host: &str, port: u16) {
    if let Ok(mut found) = tokio::net::lookup_host((host, port)).await
        && let Some(address) = found.next()
    {
        let connect = tokio::net::TcpStream::connect(address);
        drop(tokio::time::timeout(std::time::Duration::from_secs(1), connect).await);
    }
}
