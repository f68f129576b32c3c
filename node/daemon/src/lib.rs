//! What the binary `millpond` does: it runs a node, and talks to a running one.

use std::process::ExitCode;

use clap::Parser;
use millpond_node::config::Config;

mod admin;
mod cli;
mod demo;
mod http1;
mod logs;
mod obsolete;
mod relay;
mod run;
mod serving;
mod settings;

/// Does what the command line says. `adjust` has the last word on the settings of a node that is run; the binary leaves them as they are.
pub fn main(adjust: fn(&mut Config)) -> ExitCode {
    let cli = cli::Cli::parse();
    match cli.run(adjust) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The chain, on one line each: what failed, and why.
            eprintln!("millpond: {error:#}");
            ExitCode::FAILURE
        }
    }
}
