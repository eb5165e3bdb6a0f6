//! One block device served from user space: `/dev/ublkbN`.
//!
//! Owns how a device is added, started, recovered from a dead process, stopped and deleted; how a queue of the kernel
//! becomes typed [`Request`]s with buffers and answers go back; the queue's own `io_uring` as safe asynchronous
//! operations; and what a process must do to itself before it may serve a device on the machine that it runs on.
//! The only crate that names libublk, and the only home of ring `unsafe`.
//!
//! Deliberately knows nothing of volumes, journals, order or backing storage: a [`Service`] does all of that. It also
//! keeps no state on disk: what a recovery needs to know (the [`DeviceSpec`]) its caller remembers.

// What is asked.
pub mod errno;
pub mod request;
pub mod spec;

// Who answers, and with what.
pub mod buffer;
pub mod ring;
pub mod service;

// How a queue runs.
mod executor;
mod queue;
mod threads;

// How a device comes and goes.
mod begun_recovery;
mod bring_up;
pub mod device;
pub mod inventory;
mod kernel;
mod tuning;
pub mod watch;

// The same without a kernel, and what a process must do to itself with one.
pub mod error;
pub mod in_process;
pub mod namespace;
pub mod process;

pub use buffer::IoBuffer;
pub use device::{Device, recover, start};
pub use errno::Errno;
pub use error::DeviceError;
pub use inventory::{KernelDevice, State, delete, features, free_id, list};
pub use kernel::Features;
pub use namespace::own_mount_namespace;
pub use process::{io_flusher, lock_memory};
pub use request::{Kind, Request};
pub use ring::Ring;
pub use service::{QueueContext, QueueService, Service};
pub use spec::{DeviceId, DeviceSpec};
pub use watch::{Ending, Watch};
