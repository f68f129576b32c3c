//! The store through its public face: jobs, groups, snapshots, scans, opening, full disks, power cuts, the check.

mod check;
mod cuts;
mod full;
mod host;
mod jobs;
mod layout_1;
mod opening;
mod rewrite;
mod scans;
mod support;
