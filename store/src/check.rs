//! The integrity check: every row decodes, and every reference between rows holds. `millpond check` prints what it finds,
//! and the crash tests ask it after each cut.

use crate::{Error, View, tables};

mod accounts;
mod directory;
mod events;
mod keys;
mod peers;
mod rooms;
mod search;
mod userdata;

/// What a check found.
#[derive(Debug, Default)]
pub struct Report {
    /// Rows that were read.
    pub rows: u64,
    /// What is wrong, a sentence each; at most [`MAX_FINDINGS`].
    pub findings: Vec<String>,
}

/// A damaged database may have as many findings as rows; the first ones tell what happened.
pub const MAX_FINDINGS: usize = 1000;

impl Report {
    pub(crate) fn expect(&mut self, holds: bool, finding: impl FnOnce() -> String) {
        if !holds && self.findings.len() < MAX_FINDINGS {
            self.findings.push(finding());
        }
    }
}

/// Checks the whole database.
///
/// # Errors
/// Storage errors; a row that does not decode is a finding.
pub fn check(view: View<'_>) -> Result<Report, Error> {
    let mut report = Report::default();
    let mut undecodable = Vec::new();
    report.rows = tables::decode_all(&view, |finding| undecodable.push(finding))?;
    if !undecodable.is_empty() {
        undecodable.truncate(MAX_FINDINGS);
        report.findings = undecodable;
        // The checks below would stop at the first of these rows.
        return Ok(report);
    }
    accounts::check(view, &mut report)?;
    events::check(view, &mut report)?;
    keys::check(view, &mut report)?;
    rooms::check(view, &mut report)?;
    directory::check(view, &mut report)?;
    userdata::check(view, &mut report)?;
    peers::check(view, &mut report)?;
    search::check(view, &mut report)?;
    Ok(report)
}
