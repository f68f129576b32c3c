//! `millpond contact`.

use crate::harness::{Home, text};

#[test]
fn the_link_stands_alone_on_standard_output_for_scripts() {
    let home = Home::new();
    let node = home.run();
    let output = home.ask(&["contact"], "");
    let (link, said) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{said}");
    assert_eq!(link.lines().count(), 1, "{link}");
    assert!(link.starts_with("millpond:") && link.ends_with('\n'), "{link}");
    assert!(said.contains("127.0.0.1"), "who offers a link is told what the contact will see: {said}");
    assert!(home.says(&["contact", "list"], "").contains("offered"));
    node.stop();
}

#[test]
fn what_is_no_link_and_who_is_no_node_is_said() {
    let home = Home::new();
    let _node = home.run();
    assert!(home.says(&["contact", "list"], "").starts_with("No contacts."));
    assert!(home.refuses(&["contact", "add", "millpond:nonsense"], "").contains("not a contact link"));
    assert!(home.refuses(&["contact", "confirm", "nobody"], "").contains("not the name of a node"));
}

#[test]
fn two_nodes_are_linked_by_commands_while_they_run() {
    let (ours, theirs) = (Home::new(), Home::new());
    let (_a, _b) = (ours.run(), theirs.run());
    let link = ours.says(&["contact"], "");
    theirs.says(&["contact", "add", link.trim_end()], "");
    let theirs_is_called = name(&theirs);
    until(&ours, "to be confirmed");
    let list = ours.says(&["contact", "list"], "");
    assert!(list.starts_with(&theirs_is_called), "{list}");
    ours.says(&["contact", "confirm", &theirs_is_called], "");
    until(&ours, "established");
    until(&theirs, "established");
    assert!(theirs.says(&["status"], "").contains(&name(&ours)));
}

fn name(home: &Home) -> String {
    let status = home.says(&["status"], "");
    status.lines().next().unwrap().strip_prefix("Node").unwrap().trim().to_owned()
}

/// Each look is a process, which is pause enough between two.
fn until(home: &Home, state: &str) {
    let looks = 300;
    let found = (0..looks).any(|_| home.says(&["contact", "list"], "").contains(state));
    assert!(found, "no contact is {state:?}: {}", home.says(&["contact", "list"], ""));
}
