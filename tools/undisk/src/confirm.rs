//! Are you sure? Asked by having the name typed; nobody types a name by accident.

use control::error::ControlError;
use std::io::{BufRead, IsTerminal, Write};

#[cfg(test)]
mod tests;

/// Whether there is a person to ask.
pub fn somebody_to_ask() -> bool {
    std::io::stdin().is_terminal()
}

/// Lets a person confirm `deed` by typing `name`. Refused (exit status 5) when stdin is no terminal and `--yes` was
/// not given, or when something else is typed.
pub fn confirm(deed: &str, name: &str, yes: bool) -> Result<(), ControlError> {
    if yes {
        return Ok(());
    }
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(ControlError::refused(format!("will not {deed} unconfirmed, and stdin is no terminal to ask on"))
            .hint("add --yes"));
    }
    ask(deed, name, &mut stdin.lock(), &mut std::io::stderr())
}

fn ask(deed: &str, name: &str, from: &mut impl BufRead, to: &mut impl Write) -> Result<(), ControlError> {
    let _ = write!(to, "to {deed}, type the name {name}: ");
    let _ = to.flush();
    let mut typed = String::new();
    from.read_line(&mut typed).map_err(|e| ControlError::refused(format!("cannot read a confirmation: {e}")))?;
    if typed.trim() == name {
        return Ok(());
    }
    Err(ControlError::refused(format!("not confirmed, nothing done: {name} was not typed")))
}
