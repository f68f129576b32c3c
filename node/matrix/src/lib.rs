//! The room protocol as pure functions: PDU checks, auth, state resolution, DAG decisions.
