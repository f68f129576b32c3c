//! A wrong setting is shown with its key, its value and what is allowed, wherever it came from.

use crate::harness::{Home, text};

#[track_caller]
fn shows(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "{part:?} is not in: {error}");
    }
}

#[test]
fn a_wrong_flag() {
    let home = Home::new();
    let registration = home.refuses(&["run", "--registration", "maybe"], "");
    shows(&registration, &["--registration", "maybe", "token, open, closed"]);
    shows(&home.refuses(&["--listen", "localhost"], ""), &["--listen", "localhost", "127.0.0.1:8008"]);
    shows(&home.refuses(&["run", "--rate-limits", "no"], ""), &["--rate-limits", "no", "true, false"]);
    shows(&home.refuses(&["run", "--direct-port", "70000"], ""), &["--direct-port", "70000", "65535"]);
    shows(&home.refuses(&["run", "--cache-mib", "0"], ""), &["cache-mib", "0", "1 to 1048576"]);
    shows(&home.refuses(&["run", "--log", "loud=so=much"], ""), &["loud=so=much", "debug"]);
    assert!(!home.data_dir().exists(), "nothing was made");
}

#[test]
fn a_wrong_environment_variable() {
    let home = Home::new();
    let output = home.command(&["run"]).env("MILLPOND_REGISTRATION", "everybody").output().unwrap();
    assert!(!output.status.success());
    shows(&text(&output.stderr), &["--registration", "everybody", "token, open, closed"]);
}

#[test]
fn a_wrong_line_in_the_file_for_run_and_for_commands() {
    let home = Home::new();
    std::fs::create_dir(home.data_dir()).unwrap();
    std::fs::write(home.data_dir().join("millpond.toml"), "# mine\nlisten-on = \"127.0.0.1:1\"\n").unwrap();
    for command in [&["run"][..], &["account", "create", "alice"]] {
        shows(&home.refuses(command, "secret\n"), &["millpond.toml", "line 2", "listen-on", "`listen`"]);
    }
}

#[test]
fn an_environment_variable_and_a_flag_after_the_command_name_the_same_folder() {
    let (home, other) = (Home::new(), Home::new());
    home.says(&["account", "create", "alice"], "secret of alice\n");
    let folder = home.data_dir();
    let list = other.says(&["account", "list", "--data-dir", folder.to_str().unwrap()], "");
    assert_eq!(list, home.says(&["account", "list"], ""));
}
