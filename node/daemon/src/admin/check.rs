//! `millpond check`: every row decodes, and every reference between rows holds.

use crate::cli::Place;

pub(crate) fn run(place: &Place) -> anyhow::Result<()> {
    let config = place.settings()?.decide()?.node;
    super::require_node(&config.data_dir)?;
    let data_dir = config.data_dir.clone();
    let node = millpond_node::start::open(config).map_err(|error| match super::running(&data_dir) {
        Ok(Some(address)) if super::is_in_use(&error) => {
            anyhow::anyhow!("the node on {address} uses the database; stop it first")
        }
        _ => error.into(),
    })?;
    let snapshot = node.core.snapshot()?;
    let report = millpond_store::check::check(snapshot.view())?;
    for finding in &report.findings {
        println!("{finding}");
    }
    println!("{} rows, {} findings", report.rows, report.findings.len());
    anyhow::ensure!(report.findings.is_empty(), "the database is damaged");
    Ok(())
}
