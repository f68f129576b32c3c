//! End-to-end harness, scenarios, simulation, interop and benches.

pub mod sim;
