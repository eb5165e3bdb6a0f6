//! What an operator can ask either daemon, and how the question travels.
//!
//! Owns the requests, the answers, the kinds of error with their exit statuses, the spelling of points, sizes,
//! names and settings, the framing on a Unix socket with both of its ends, where the shared files are, and who uses a device.
//! Deliberately does none of what is asked: the daemons do.
#![forbid(unsafe_code)]

pub mod answer;
pub mod client;
pub mod device_use;
pub mod error;
pub mod events;
pub mod name;
pub mod paths;
pub mod pid_file;
pub mod point;
pub mod request;
pub mod server;
pub mod settings;
pub mod size;
pub mod socket;
pub mod time;
pub mod wire;
