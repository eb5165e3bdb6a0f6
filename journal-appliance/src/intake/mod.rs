//! What splitters bring: connections, chunks, synchronisations, in the order in which a byte meets the modules.
//!
//! Owns everything between the link socket and the journal. Deliberately knows neither operators nor images.

pub mod link;
pub mod outbox;
pub mod session;
