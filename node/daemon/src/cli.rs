//! The command line.

use clap::{Args, Parser, Subcommand};

use crate::{admin, run, settings::Settings};

/// A Matrix homeserver on your own device.
#[derive(Parser)]
#[command(name = "millpond", version, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Settings,
}

#[derive(Subcommand)]
enum Command {
    /// Run the node (what `millpond` alone does too)
    Run(Box<Settings>),
    /// Make and manage accounts on this node
    Account {
        #[command(flatten)]
        place: Place,
        #[command(subcommand)]
        command: admin::account::Command,
    },
    /// Link this node with others
    Contact {
        #[command(flatten)]
        place: Place,
        #[command(subcommand)]
        command: Option<admin::contact::Command>,
    },
    /// Show what the running node is doing
    Status {
        #[command(flatten)]
        place: Place,
    },
    /// Verify the database: every reference between rows (the node must be stopped)
    Check {
        #[command(flatten)]
        place: Place,
    },
}

/// Where the node keeps its data.
#[derive(Args)]
pub(crate) struct Place {
    /// The node's data directory
    #[arg(long, global = true, env = "MILLPOND_DATA_DIR", value_name = "FOLDER")]
    pub(crate) data_dir: Option<std::path::PathBuf>,
}

impl Place {
    fn data_dir(&self) -> anyhow::Result<std::path::PathBuf> {
        match &self.data_dir {
            Some(dir) => Ok(dir.clone()),
            None => crate::settings::default_data_dir(),
        }
    }
}

impl Cli {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self.command {
            None => run::run(self.run),
            Some(Command::Run(settings)) => run::run(*settings),
            Some(Command::Account { place, command }) => admin::account::run(&place.data_dir()?, command),
            Some(Command::Contact { place, command }) => {
                admin::contact::run(&place.data_dir()?, command.unwrap_or_default())
            }
            Some(Command::Status { place }) => admin::status::run(&place.data_dir()?),
            Some(Command::Check { place }) => admin::check::run(&place.data_dir()?),
        }
    }
}
