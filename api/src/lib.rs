//! HTTP: turns client-server, server-server and `/_millpond` requests into calls on `millpond-node`.
