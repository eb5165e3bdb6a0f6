//! The program: arguments in, exit status out. What it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    inspect::run(std::env::args_os())
}
