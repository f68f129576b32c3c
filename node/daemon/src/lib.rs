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
            eprintln!("millpond: {}", told(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error with its causes; those that it names itself are not said twice.
fn told(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain().map(ToString::to_string).filter(|cause| !cause.is_empty()) {
        if told.is_empty() {
            told = cause;
        } else if !told.ends_with(&cause) {
            told = format!("{told}: {cause}");
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    #[test]
    fn causes_are_told_once() {
        let inner = std::io::Error::other("inner");
        let error = anyhow::Error::new(inner).context("middle: inner");
        assert_eq!(super::told(&error), "middle: inner");
        let error = Err::<(), _>(error).context("outer").unwrap_err();
        assert_eq!(super::told(&error), "outer: middle: inner");
    }
}
