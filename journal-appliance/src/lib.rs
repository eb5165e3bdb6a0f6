//! Journals what splitters send and presents past moments as devices.
//!
//! Rooms in the order in which data meets them: `intake` takes splitters' streams, `group` appends them to journals
//! and carries out what operators ask of a group, `groups` keeps all groups and their files, `present` shows past
//! moments as devices, `operate` answers operators, `housekeeping` watches what nobody asks about. `barrier`, `bookmark`
//! and `rollback` decide, `catalog` remembers, `policy` says what is kept, `replica` finds room, `events` tells what happened.
//!
//! The storage engine is the crate `journal`; the splitter is never linked, only talked to.

pub mod barrier;
pub mod bookmark;
pub mod catalog;
pub mod events;
pub mod group;
pub mod groups;
pub mod housekeeping;
pub mod intake;
pub mod operate;
pub mod policy;
pub mod present;
pub mod replica;
pub mod rollback;
