//! The `undisk` program: nothing but the way in.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(undisk::run(std::env::args_os()))
}
