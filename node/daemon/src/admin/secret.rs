//! Passwords and passphrases: asked for at a terminal, where they are not shown while they are typed; else the first line of standard input.

use std::io::IsTerminal;

use zeroize::Zeroizing;

/// One that exists: asked for once. `what`: what it is called.
pub(super) fn read(what: &str) -> anyhow::Result<Zeroizing<String>> {
    let text = match std::io::stdin().is_terminal() {
        true => asked(&format!("{}: ", capital(what)))?,
        false => line()?,
    };
    anyhow::ensure!(!text.is_empty(), "no {what} on standard input");
    Ok(text)
}

/// A new one: asked for twice.
pub(super) fn read_new(what: &str) -> anyhow::Result<Zeroizing<String>> {
    let text = read(what)?;
    if std::io::stdin().is_terminal() {
        anyhow::ensure!(*asked("Once more: ")? == *text, "the two differ: nothing was changed");
    }
    Ok(text)
}

fn asked(prompt: &str) -> anyhow::Result<Zeroizing<String>> {
    Ok(Zeroizing::new(rpassword::prompt_password(prompt)?))
}

fn line() -> anyhow::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    std::io::stdin().read_line(&mut text)?;
    Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
