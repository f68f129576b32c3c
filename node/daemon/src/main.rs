//! The binary `millpond`: runs a node, and talks to a running one.

use clap::Parser;

mod admin;
mod cli;
mod demo;
mod http1;
mod logs;
mod relay;
mod run;
mod serving;
mod settings;

fn main() -> std::process::ExitCode {
    let cli = cli::Cli::parse();
    match cli.run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            // The chain, on one line each: what failed, and why.
            eprintln!("millpond: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
