//! The command line from outside: what it prints, where, and its exit status, against daemons that are not real.
//!
//! `transcript` runs the files in `transcripts/` (written anew with `UNDISK_TRANSCRIPTS=write`, to be read before they
//! are committed); `json` holds `--json` against `docs/formats/json.md`; `settings` sets both
//! daemons' settings at once; `lifecycle` brings fake daemons up and down
//! with the real supervisor. Real daemons and real devices are the VM suites' business.

// A test program: clippy knows only functions marked as tests by itself.
#![allow(clippy::unwrap_used)]

mod fake;
mod json;
mod lifecycle;
mod settings;
mod transcript;
mod world;
