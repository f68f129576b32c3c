//! What the demo shows: a line for each step that is done, and a bar at the bottom while it waits (on a terminal).

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// The demo's output.
pub(super) struct Show {
    bar: ProgressBar,
    begun: Instant,
    done: Cell<u32>,
}

/// How long one step may take. The slowest ones wait for a peer's next attempt to deliver, a few seconds away.
const STEP: Duration = Duration::from_secs(12);
/// The bar's spinner and clock move this often.
const TICK: Duration = Duration::from_millis(120);

impl Show {
    /// A show of so many steps.
    pub(super) fn new(steps: u64) -> Self {
        // Hidden where standard error is no terminal.
        let bar = ProgressBar::new(steps);
        let style = ProgressStyle::with_template("{spinner} [{bar:30}] {elapsed}  {msg}");
        if let Ok(style) = style {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.enable_steady_tick(TICK);
        Self { bar, begun: Instant::now(), done: Cell::new(0) }
    }

    /// Does a step within its deadline and says that it is done; an error says which step it was.
    pub(super) async fn step<T>(&self, what: &str, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        self.bar.set_message(what.to_owned());
        let outcome = match tokio::time::timeout(STEP, work).await {
            Ok(outcome) => outcome,
            Err(_) => Err(anyhow::anyhow!("not done within {} s", STEP.as_secs())),
        };
        let number = self.done.get() + 1;
        let value = outcome.map_err(|error| error.context(format!("step {number} ({what})")))?;
        self.done.set(number);
        self.bar.inc(1);
        self.line(&format!("{:5.1} s  {number:2}. {what}", self.begun.elapsed().as_secs_f32()));
        Ok(value)
    }

    /// A line that says more about the step above it.
    pub(super) fn detail(&self, text: &str) {
        self.line(&format!("             {text}"));
    }

    /// A line of its own.
    pub(super) fn line(&self, text: &str) {
        self.bar.suspend(|| println!("{text}"));
    }

    /// What the step waits for.
    pub(super) fn waiting(&self, text: String) {
        self.bar.set_message(text);
    }

    /// Takes the bar away; says how long it all took.
    pub(super) fn finish(&self) -> Duration {
        self.bar.finish_and_clear();
        self.begun.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_step_that_fails_is_named_with_its_reason() {
        let show = Show::new(2);
        show.step("the first", async { Ok(()) }).await.unwrap();
        let failed = show.step::<()>("the second", async { anyhow::bail!("bob is away") }).await.unwrap_err();
        assert_eq!(format!("{failed:#}"), "step 2 (the second): bob is away");
    }
}
