//! Writes the journal that `tests/formats/journal-v1` keeps into a folder.
//!
//! Only for a new format version: the folder of a version that was released never changes.
//! `cargo run -p journal --example make_fixture -- tests/formats/journal-v1`

#[path = "../tests/common/mod.rs"]
mod common;

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: make_fixture FOLDER");
        return ExitCode::from(2);
    };
    for (name, bytes) in common::fixture::build() {
        let path = folder.join(name);
        let made = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&path, bytes));
        if let Err(error) = made {
            eprintln!("write {}: {error}", path.display());
            return ExitCode::FAILURE;
        }
        println!("{}", path.display());
    }
    ExitCode::SUCCESS
}
