//! `millpond check`: every row decodes, and every reference between rows holds.

use crate::cli::Place;

pub(crate) fn run(place: &Place) -> anyhow::Result<()> {
    let config = place.settings()?.decide()?.node;
    super::require_node(&config.data_dir)?;
    if let Some(address) = super::running(&config.data_dir)? {
        anyhow::bail!("the node on {address} uses the database; stop it first");
    }
    let node = millpond_node::start::open(config)?;
    let snapshot = node.core.snapshot()?;
    let report = millpond_store::check::check(snapshot.view())?;
    for finding in &report.findings {
        println!("{finding}");
    }
    println!("{} rows, {} findings", report.rows, report.findings.len());
    anyhow::ensure!(report.findings.is_empty(), "the database is damaged");
    Ok(())
}
