//! Logging to standard error. What may be logged is decided where it is logged: nothing here filters secrets.

use std::io::Write;

use anyhow::Context;
use tracing_subscriber::{EnvFilter, Layer, filter::LevelFilter, layer::SubscriberExt, util::SubscriberInitExt};

use crate::obsolete::Ear;

pub(crate) fn start(filter: &str) -> anyhow::Result<()> {
    // A level that is mistyped would be taken for the name of a target, and silence the rest.
    let is_level = |part: &str| part.is_empty() || part.parse::<LevelFilter>().is_ok();
    let wrong = filter.split(',').map(str::trim).find(|part| !part.contains(['=', '[']) && !is_level(part));
    if let Some(wrong) = wrong {
        anyhow::bail!(
            "log = `{filter}`: `{wrong}` is no level: use off, error, warn, info, debug, trace or target=level,..."
        );
    }
    // State resolution names event ids in its spans from `info` on, libp2p peer ids and addresses, arti relays; a filter that mentions them itself wins.
    let filter = EnvFilter::try_new(format!("ruma_state_res=warn,libp2p=warn,arti_client=error,tor_=error,{filter}"))
        .with_context(|| {
        format!("log filter `{filter}`: use off, error, warn, info, debug, trace or target=level,...")
    })?;
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let written = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colours).with_target(false);
    // The ear hears what nobody wants to read.
    tracing_subscriber::registry().with(written.with_filter(filter)).with(Ear.with_filter(LevelFilter::ERROR)).init();
    Ok(())
}

/// A line for the person who started the program. Whoever closed the other end, and only wanted the first lines, does not end what runs.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
