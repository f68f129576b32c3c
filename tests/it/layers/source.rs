//! What manifests cannot show. ruma is one crate with features, so state resolution and signatures are looked for in the sources; the ban on
//! clock and I/O in the pure packages is clippy's work, so only the presence of its configuration is looked at.

use std::path::{Path, PathBuf};

/// Every Rust source of a package, without the packages nested in it and without its integration tests, which play the other side.
pub fn files(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(current) = open.pop() {
        for entry in std::fs::read_dir(&current).expect("a package's folder can be listed") {
            let path = entry.expect("a package's folder can be listed").path();
            if path.is_dir() && !path.join("Cargo.toml").exists() && path != folder.join("tests") {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = super::read(&path);
                found.push((path, text));
            }
        }
    }
    found
}

/// The modules among `state_res` and `signatures` that the source reaches through ruma.
pub fn ruma_modules_kept_in_matrix(text: &str) -> Vec<&'static str> {
    let code: String =
        text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    ["state_res", "signatures"].into_iter().filter(|module| reaches(&code, module)).collect()
}

/// `ruma::module` written out, or `module` as the head of a branch of a `use ruma::{..}` tree.
fn reaches(code: &str, module: &str) -> bool {
    code.match_indices("ruma::").any(|(at, prefix)| {
        let rest = &code[at + prefix.len()..];
        if !rest.starts_with('{') {
            return is_head(rest, module);
        }
        let tree = rest.split(';').next().unwrap_or_default();
        branches(&tree[1..]).into_iter().any(|branch| is_head(branch, module))
    })
}

/// Splits the inside of a use tree at the commas of its outermost level.
fn branches(tree: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0_i32, 0, Vec::new());
    for (at, letter) in tree.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(tree[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
        if depth < 0 {
            found.push(tree[start..at].trim());
            break;
        }
    }
    found
}

fn is_head(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| !rest.starts_with(|next: char| next.is_alphanumeric() || next == '_'))
}

/// Which of the clock and I/O bans a pure package's clippy.toml lacks.
pub fn bans_missing(clippy: &str) -> Vec<&'static str> {
    let table: toml::Table = clippy.parse().expect("clippy.toml is TOML");
    let banned: Vec<&str> = ["disallowed-methods", "disallowed-types"]
        .iter()
        .filter_map(|key| table.get(*key)?.as_array())
        .flatten()
        .filter_map(|line| line.as_str().or_else(|| line.get("path")?.as_str()))
        .collect();
    const CLOCK: [&str; 2] = ["std::time::SystemTime", "std::time::Instant"];
    const IO: [&str; 2] = ["std::fs::File", "std::net::TcpStream"];
    CLOCK
        .into_iter()
        .chain(IO)
        .filter(|path| {
            !banned.iter().any(|ban| ban == path || ban.strip_prefix(path).is_some_and(|rest| rest.starts_with("::")))
        })
        .collect()
}
