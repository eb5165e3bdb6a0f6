//! What tests need and the product does not have: a disk that forgets, tears and lies on request, a splitter's
//! chunks without a splitter, and a reference group that simply remembers everything.
//!
//! A dev-dependency only. Everything random comes from a seed that the test prints; `SEED=n` replays it.

pub mod base;
pub mod chunks;
pub mod disk;
mod pages;
pub mod reference;
pub mod rng;

pub use base::{DiskBase, MemBase};
pub use chunks::Laying;
pub use disk::SimDisk;
pub use reference::Reference;
pub use rng::Rng;
