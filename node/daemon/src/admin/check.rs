//! `millpond check`: every row decodes, and every reference between rows holds.

use std::path::Path;

use millpond_store::Snapshot;

use crate::cli::Place;

pub(crate) fn run(place: &Place, sizes: bool) -> anyhow::Result<()> {
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
    if sizes {
        print_sizes(&snapshot, &data_dir)?;
    }
    let report = millpond_store::check::check(snapshot.view())?;
    for finding in &report.findings {
        println!("{finding}");
    }
    println!("{} rows, {} findings", report.rows, report.findings.len());
    anyhow::ensure!(report.findings.is_empty(), "the database is damaged");
    Ok(())
}

/// A line for each table, the largest first, and what of the file none of them uses.
fn print_sizes(snapshot: &Snapshot, data_dir: &Path) -> anyhow::Result<()> {
    let file = std::fs::metadata(data_dir.join("millpond.redb"))?.len();
    let sizes = snapshot.sizes()?;
    println!("{:>12} {:>14} {:>14}  table", "rows", "bytes", "on disk");
    for size in &sizes {
        println!("{:>12} {:>14} {:>14}  {}", size.rows, size.stored, size.on_disk, size.name);
    }
    let used: u64 = sizes.iter().map(|size| size.on_disk).sum();
    println!("{:>12} {:>14} {:>14}  free for later", "", "", file.saturating_sub(used));
    Ok(())
}
