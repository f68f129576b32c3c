//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use millpond_node::config::Config;

use crate::{admin, demo, relay, run, settings::Settings};

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
    /// Where this node's mail waits while it sleeps
    Mailbox {
        #[command(flatten)]
        place: Place,
        #[command(subcommand)]
        command: admin::mailbox::Command,
    },
    /// Read what users reported
    Report {
        #[command(flatten)]
        place: Place,
        #[command(subcommand)]
        command: Option<admin::report::Command>,
    },
    /// Show what the running node is doing
    Status {
        #[command(flatten)]
        place: Place,
    },
    /// Write everything that makes this node into one encrypted file
    Backup {
        #[command(flatten)]
        place: Place,
        /// The file to write
        file: PathBuf,
        /// Leave uploaded and fetched files out
        #[arg(long)]
        without_media: bool,
    },
    /// Make the node of a backup, in a folder without one
    Restore {
        #[command(flatten)]
        place: Place,
        /// The backup
        file: PathBuf,
    },
    /// Verify the database: every reference between rows (the node must be stopped)
    Check {
        #[command(flatten)]
        place: Place,
        /// Say also what each table takes on the disk
        #[arg(long)]
        sizes: bool,
    },
    /// Host mailboxes for people who are never online together
    Relay(Box<relay::RelayArgs>),
    /// Empty old messages, and write the database anew so that what was removed or redacted is gone from the disk
    Purge {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        what: admin::purge::What,
    },
    /// Withhold files, or give them free again
    Media {
        #[command(flatten)]
        place: Place,
        #[command(subcommand)]
        command: admin::media::Command,
    },
    /// Write a room of yours into a folder, as JSON or as a page to read
    Export {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        what: admin::export::What,
    },
    /// Start two nodes in a temporary folder, link them, and send encrypted messages while one is away
    Demo {
        /// What the two nodes log, as `level` or `target=level,...` [default: error]
        #[arg(long, env = "MILLPOND_LOG", value_name = "FILTER")]
        log: Option<String>,
    },
}

/// Where the node keeps its data.
#[derive(Args)]
pub(crate) struct Place {
    /// The node's data directory
    #[arg(long, global = true, env = "MILLPOND_DATA_DIR", value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// The node's settings file [default: millpond.toml in the data directory, if it is there]
    #[arg(long, global = true, env = "MILLPOND_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The settings of a command that has none as flags.
#[derive(Parser)]
struct Environment {
    #[command(flatten)]
    settings: Settings,
}

impl Place {
    /// What `millpond run` would use here: a command without a running node opens the store as that would.
    pub(crate) fn settings(&self) -> anyhow::Result<Settings> {
        let environment = Environment::try_parse_from(["millpond"])?;
        let mut settings = environment.settings;
        settings.data_dir = self.data_dir.clone().or(settings.data_dir);
        settings.config = self.config.clone().or(settings.config);
        Ok(settings)
    }
}

impl Cli {
    pub(crate) fn run(self, adjust: fn(&mut Config)) -> anyhow::Result<()> {
        match self.command {
            None => run::run(self.run, adjust),
            Some(Command::Run(settings)) => run::run(*settings, adjust),
            Some(Command::Account { place, command }) => admin::account::run(&place, command),
            Some(Command::Contact { place, command }) => admin::contact::run(&place, command.unwrap_or_default()),
            Some(Command::Mailbox { place, command }) => admin::mailbox::run(&place, command),
            Some(Command::Report { place, command }) => admin::report::run(&place, command.unwrap_or_default()),
            Some(Command::Status { place }) => admin::status::run(&place),
            Some(Command::Backup { place, file, without_media }) => admin::backup::backup(&place, &file, without_media),
            Some(Command::Restore { place, file }) => admin::backup::restore(&place, &file),
            Some(Command::Check { place, sizes }) => admin::check::run(&place, sizes),
            Some(Command::Relay(args)) => relay::run(*args),
            Some(Command::Purge { place, what }) => admin::purge::run(&place, &what),
            Some(Command::Media { place, command }) => admin::media::run(&place, &command),
            Some(Command::Export { place, what }) => admin::export::run(&place, &what),
            Some(Command::Demo { log }) => demo::run(log.as_deref().unwrap_or("error")),
        }
    }
}
