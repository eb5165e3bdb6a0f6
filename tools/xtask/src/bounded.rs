//! Programs that cannot outlive their deadline, nor us.

use std::process::Command;

/// A command for `program` and all it starts, ended after `seconds` (and killed ten seconds later), and ended as well when
/// this process dies. Exit status 124 says that the time was up.
pub fn command(program: &str, seconds: u64) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "timeout", "--kill-after=10", &seconds.to_string(), program]);
    command
}

/// The exit status of [`command`] that means that the time was up.
pub const TIME_UP: i32 = 124;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_past_its_deadline_is_ended_with_all_it_started() {
        // The output ends only when nobody holds it open any more.
        let output = command("sh", 1).args(["-c", "sleep 600 & sleep 600"]).output().unwrap();
        assert_eq!(output.status.code(), Some(TIME_UP));
    }

    #[test]
    fn a_program_in_time_keeps_its_status() {
        assert_eq!(command("sh", 60).args(["-c", "exit 3"]).status().unwrap().code(), Some(3));
    }
}
