//! Seeded histories of the whole system: the very types that the binaries link, in a world that fails on purpose.
//!
//! One thread runs everything: the splitter's volumes, conversation and jobs as the futures that they are, the
//! appliance's group turn by turn, hosts, kernel devices, disks and links. Who runs next, how long anything takes and
//! what goes wrong comes from one seed, so that a history that fails can be had again: `cargo xtask sim --from SEED
//! --seeds 1`. `docs/simulation.md` says what is simulated and what is not.
//!
//! Rooms: `dice` and `time` are the only sources of chance and time, `executor` runs tasks; `disks`, `replica`, `rot`
//! and `links` are what fails; `appliance`, `splitter` and `hosts` are who lives there; `world` is the course of a run and
//! what befalls it; `content`, `history` and `checker` know what hosts were told, and judge. Deliberately no rule of
//! order, recovery or resynchronisation is written here a second time: the checker knows only what hosts can see.

pub mod appliance;
pub mod checker;
pub mod content;
pub mod dice;
pub mod disks;
pub mod executor;
pub mod history;
pub mod hosts;
pub mod links;
pub mod replica;
pub mod rot;
pub mod run;
pub mod splitter;
pub mod time;
pub mod trace;
pub mod world;
