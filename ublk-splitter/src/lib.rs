//! The splitter: serves virtual volumes, puts every write, discard, write-zeroes and flush in order, and splits it,
//! one copy to the backing, one to the outbox that the journal appliance reads.
//!
//! Modules in the order in which a request meets them. Deliberately knows nothing of journals, images or retention:
//! what lies behind the link belongs to the appliance.

pub mod backing;
pub mod begin;
pub mod bell;
pub mod catalog;
pub mod clock;
mod compare;
pub mod create;
pub mod dirty_map;
pub mod events;
pub mod group;
pub mod lag;
pub mod link;
mod lock;
pub mod operate;
pub mod order;
pub mod outbox;
pub mod policy;
pub mod regions;
pub mod ring_io;
pub mod serve;
mod status;
pub mod steer;
pub mod stop;
pub mod stream;
pub mod volume;
pub mod work;
