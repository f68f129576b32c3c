//! The binary `millpond`.

fn main() -> std::process::ExitCode {
    millpond::main(|_| {})
}
