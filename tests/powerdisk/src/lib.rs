//! Disks for guests whose power is cut: what was not flushed may be lost, in part, in pieces.
//!
//! Killing QEMU loses nothing: what the guest wrote is in the host's page cache. These disks are served over NBD and keep
//! what was not flushed apart from what is durable; at a *cut*, all of them at the same instant, a seeded part of it is
//! lost. The next client finds what survived.
//!
//! Owns the cache of a disk ([`cache`]), the protocol ([`nbd`]) and the server ([`server`]). Knows nothing of undisk.
#![forbid(unsafe_code)]

pub mod cache;
pub mod nbd;
pub mod rng;
pub mod server;
