//! End-to-end harness, scenarios, interop and benches.
