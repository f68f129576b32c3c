//! `millpond check`: every row decodes, and every reference between rows holds.

use std::path::Path;

pub(crate) fn run(data_dir: &Path) -> anyhow::Result<()> {
    if let Some(address) = super::running(data_dir)? {
        anyhow::bail!("the node on {address} uses the database; stop it first");
    }
    let node = millpond_node::start::open(millpond_node::config::Config::new(data_dir.to_owned()))?;
    let snapshot = node.core.snapshot()?;
    let report = millpond_store::check::check(snapshot.view())?;
    for finding in &report.findings {
        println!("{finding}");
    }
    println!("{} rows, {} findings", report.rows, report.findings.len());
    anyhow::ensure!(report.findings.is_empty(), "the database is damaged");
    Ok(())
}
