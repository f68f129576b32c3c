//! What the layer test reads from one Cargo.toml: the package's name and what it depends on, by the crate's real name.

use toml::{Table, Value};

/// In which table a dependency stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `[dependencies]` or `[build-dependencies]`: part of what is shipped.
    Shipped,
    /// `[dev-dependencies]`: tests and benches only.
    Dev,
}

/// One line of a dependency table.
#[derive(Debug)]
pub struct Dependency {
    /// The name in the registry, whatever the manifest renames it to.
    pub krate: String,
    pub kind: Kind,
}

/// A member of the workspace.
#[derive(Debug)]
pub struct Manifest {
    pub name: String,
    pub dependencies: Vec<Dependency>,
}

impl Manifest {
    /// Reads a member's manifest; `root` is the workspace's own, where inherited dependencies are defined.
    pub fn parse(text: &str, root: &Table) -> Self {
        let table: Table = text.parse().expect("a manifest is TOML");
        let name = table["package"]["name"].as_str().expect("a package has a name").to_owned();
        let mut dependencies = Vec::new();
        collect(&table, root, &mut dependencies);
        // [target.'cfg(..)'.dependencies] count as well: a layer holds on every platform.
        if let Some(targets) = table.get("target").and_then(Value::as_table) {
            targets.values().filter_map(Value::as_table).for_each(|target| collect(target, root, &mut dependencies));
        }
        Self { name, dependencies }
    }
}

fn collect(table: &Table, root: &Table, into: &mut Vec<Dependency>) {
    const TABLES: [(&str, Kind); 3] =
        [("dependencies", Kind::Shipped), ("build-dependencies", Kind::Shipped), ("dev-dependencies", Kind::Dev)];
    for (section, kind) in TABLES {
        let Some(lines) = table.get(section).and_then(Value::as_table) else { continue };
        for (key, value) in lines {
            into.push(Dependency { krate: real_name(key, value, root), kind });
        }
    }
}

fn real_name(key: &str, value: &Value, root: &Table) -> String {
    let renamed = |value: &Value| value.get("package").and_then(Value::as_str).map(str::to_owned);
    let inherited = value.get("workspace").and_then(Value::as_bool).unwrap_or(false);
    if inherited {
        let defined = root.get("workspace").and_then(|workspace| workspace.get("dependencies")?.get(key));
        return defined.and_then(renamed).unwrap_or_else(|| key.to_owned());
    }
    renamed(value).unwrap_or_else(|| key.to_owned())
}
