//! `millpond purge`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use clap::Args;
use http::Method;
use serde_json::json;

use super::Api;
use crate::cli::Place;

/// What to purge.
#[derive(Args)]
pub(crate) struct What {
    /// Empty the messages that were sent before this day (2026-01-31, UTC) or this many days ago (90d)
    #[arg(long, value_name = "DATE|DAYSd")]
    before: Option<String>,
    /// Only those of this room
    #[arg(long, value_name = "ROOM", requires = "before")]
    room: Option<String>,
}

pub(crate) fn run(place: &Place, what: &What) -> anyhow::Result<()> {
    let before_ms = what.before.as_deref().map(|text| time(text, SystemTime::now())).transpose()?;
    let data_dir = place.settings()?.decide()?.node.data_dir;
    let api = Api::open(place)?;
    let done = api.ask(Method::POST, "purge", Some(&json!({ "room": what.room, "before_ms": before_ms })))?;
    if before_ms.is_some() {
        println!("Emptied {} messages, removed {} files", done["events"], done["media"]);
    }
    if api.is_running() {
        println!("What was removed stays in free parts of the database file until the node starts the next time.");
        return Ok(());
    }
    drop(api);
    let (before, after) = millpond_node::start::rewrite(&data_dir)?;
    println!("Wrote the database anew: {before} bytes before, {after} after");
    Ok(())
}

/// A day or a number of days in milliseconds since the epoch.
fn time(text: &str, now: SystemTime) -> anyhow::Result<u64> {
    let wrong = || format!("--before {text}: allowed is a day like 2026-01-31 or a number of days like 90d");
    if let Some(days) = text.strip_suffix('d') {
        let days: u64 = days.parse().ok().with_context(wrong)?;
        let age = Duration::from_secs(days.checked_mul(86_400).with_context(wrong)?);
        let then = now.duration_since(UNIX_EPOCH)?.saturating_sub(age);
        return Ok(u64::try_from(then.as_millis())?);
    }
    let parts: Vec<i64> = text.split('-').map(str::parse).collect::<Result<_, _>>().ok().with_context(wrong)?;
    let [year, month, day] = parts[..] else { anyhow::bail!(wrong()) };
    let date = (1970..10_000).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    anyhow::ensure!(date, wrong());
    Ok(u64::try_from(days_since_epoch(year, month, day) * 86_400_000)?)
}

/// Days from 1970-01-01 in the Gregorian calendar, with years that begin in March so that leap days come last.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_day_or_days_ago_and_nothing_else() {
        let now = UNIX_EPOCH + Duration::from_secs(100 * 86_400);
        for (text, days) in [
            ("90d", 10),
            ("200d", 0),
            ("1970-01-01", 0),
            ("2000-02-29", 11_016),
            ("2000-03-01", 11_017),
            ("2026-11-27", 20_784),
        ] {
            assert_eq!(time(text, now).unwrap(), days * 86_400_000, "{text}");
        }
        for text in ["yesterday", "2026", "2026-13-01", "2026-01-32", "-1d", "d", "2026-01-31-1", ""] {
            assert!(time(text, now).unwrap_err().to_string().contains("2026-01-31"), "{text}");
        }
    }
}
