//! `inspect` as its users run it, over journals made here.

mod cli;
mod copies;
mod made;
