//! `millpond demo` really happens.

use std::time::{Duration, Instant};

use crate::harness::{Home, text};

#[test]
fn the_demo_shows_its_steps_ends_in_time_and_leaves_nothing() {
    let home = Home::new();
    let begun = Instant::now();
    let output = home.ask(&["demo"], "");
    let (said, error) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{said}{error}");
    assert!(begun.elapsed() < Duration::from_secs(40), "{said}");
    for shown in ["encrypted room", "bob joins", "Message 5 of 5", "Everything arrived"] {
        assert!(said.contains(shown), "{shown} is not in: {said}");
    }
    let left: Vec<_> = std::fs::read_dir(home.data_dir().parent().unwrap()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}
