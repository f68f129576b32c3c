//! The layer test: reads the manifests and the pure packages' sources, and fails on a forbidden edge between our packages, on a foreign crate on
//! the wrong side, and on impurity in a pure package. The table is `rules`; ARCHITECTURE.md says why each line is there.

mod manifest;
mod red;
mod rules;
mod source;

use std::path::{Path, PathBuf};

use manifest::Manifest;

/// The folder that holds the workspace's root manifest.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests package stands in the workspace root").to_owned()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
}

/// Every member of the workspace with the folder it stands in.
fn members() -> Vec<(PathBuf, Manifest)> {
    let text = read(&root().join("Cargo.toml"));
    let workspace: toml::Table = text.parse().expect("the root manifest is TOML");
    let list = workspace["workspace"]["members"].as_array().expect("the workspace lists its members");
    list.iter()
        .map(|member| {
            let folder = root().join(member.as_str().expect("a member is a path"));
            let manifest = Manifest::parse(&read(&folder.join("Cargo.toml")), &workspace);
            (folder, manifest)
        })
        .collect()
}

#[test]
fn every_package_keeps_to_its_layer() {
    let violations: Vec<String> = members().iter().flat_map(|(_, manifest)| rules::violations(manifest)).collect();
    assert!(violations.is_empty(), "forbidden edges:\n{}", violations.join("\n"));
}

#[test]
fn every_package_of_the_table_exists() {
    let found: Vec<String> = members().into_iter().map(|(_, manifest)| manifest.name).collect();
    for package in rules::PACKAGES {
        assert!(found.iter().any(|name| name == package.name), "no member of the workspace is called {}", package.name);
    }
}

/// A request that does not go through the egress would show the IP address of a node that hides it.
#[test]
fn the_network_is_reached_from_few_places() {
    const DOORS: [&str; 5] = ["TcpStream::connect", "UdpSocket", "lookup_host", "reqwest::", "hickory_resolver"];
    // The last two talk to the node on this machine.
    const PLACES: [&str; 5] = [
        "node/src/egress",
        "node/src/classic/dns.rs",
        "overlay/src/transport/",
        "node/daemon/src/http1.rs",
        "node/daemon/src/admin.rs",
    ];
    let mut elsewhere = Vec::new();
    for (folder, manifest) in members().into_iter().filter(|(_, manifest)| manifest.name != "millpond-tests") {
        for (path, text) in source::files(&folder) {
            let shown = path.strip_prefix(root()).expect("sources stand under the root").display().to_string();
            let is_test = shown.ends_with("tests.rs") || shown.contains("/benches/");
            let doors = DOORS.iter().filter(|door| text.contains(**door));
            if !is_test && !PLACES.iter().any(|place| shown.starts_with(place)) {
                elsewhere.extend(doors.map(|door| format!("{}: {door} in {shown}", manifest.name)));
            }
        }
    }
    assert!(elsewhere.is_empty(), "what leaves this machine goes through node/src/egress:\n{}", elsewhere.join("\n"));
}

#[test]
fn state_resolution_and_signatures_are_called_in_matrix_only() {
    let mut violations = Vec::new();
    for (folder, manifest) in members() {
        if manifest.name == "millpond-matrix" || manifest.name == "millpond-tests" {
            continue;
        }
        for (path, text) in source::files(&folder) {
            for module in source::ruma_modules_kept_in_matrix(&text) {
                let shown = path.strip_prefix(root()).expect("sources stand under the root").display().to_string();
                violations.push(format!(
                    "{shown} uses ruma::{module}: use millpond_matrix (its signing module re-exports what others need)"
                ));
            }
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn an_exception_is_used_in_its_folder_only() {
    for exception in rules::EXCEPTIONS {
        let (folder, _) =
            members().into_iter().find(|(_, manifest)| manifest.name == exception.name).expect("it is a member");
        let outside: Vec<_> = source::files(&folder)
            .into_iter()
            .filter(|(path, text)| !path.starts_with(folder.join(exception.folder)) && text.contains(exception.krate))
            .map(|(path, _)| path.display().to_string())
            .collect();
        assert!(outside.is_empty(), "{} stays in {}: {}", exception.krate, exception.folder, outside.join(", "));
    }
}

#[test]
fn each_pure_package_bans_clock_and_input_output() {
    for (folder, manifest) in members() {
        if !rules::is_pure(&manifest.name) {
            continue;
        }
        let path = folder.join("clippy.toml");
        let missing = source::bans_missing(&read(&path));
        assert!(missing.is_empty(), "{} does not ban {}", path.display(), missing.join(", "));
    }
}
