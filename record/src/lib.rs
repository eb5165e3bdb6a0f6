//! The vocabulary and the bytes of undisk.
//!
//! Owns what a sector, an extent, an id, a position and an operation are, how a chunk of records looks in
//! bytes, and what splitter and appliance say to each other. Deliberately does no I/O, reads no clock, knows no
//! thread and holds no `unsafe`: everything else may depend on this crate, and it depends on nothing of ours.
#![forbid(unsafe_code)]

pub mod build;
pub mod checksum;
pub mod chunk;
pub mod conversation;
pub mod crcs;
pub mod digest;
pub mod fault;
pub mod geometry;
pub mod header;
pub mod ids;
pub mod member;
pub mod op;
pub mod point;
pub mod position;
pub mod streams;
pub mod zeros;
