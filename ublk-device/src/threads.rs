//! The threads of a device's queues, as the device's owner sees them.
//!
//! Owns their beginning and their end, so that no error of one leaves the others waiting: the driver starts a device
//! only when every queue serves, and would wait for ever for one that gave up.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use libublk::io::UblkDev;
use libublk::sys;

use crate::buffer::IoBuffer;
use crate::error::DeviceError;
use crate::queue::{AbortOnPanic, Gate, Queue};
use crate::service::{QueueContext, Service};
use crate::spec::DeviceSpec;

/// What a queue's thread calls as its last act.
pub(crate) type Ended = Arc<dyn Fn() + Send + Sync>;

/// The queues' threads, each with its queue ready.
pub(crate) struct Threads(Vec<Thread>);

struct Thread {
    gate: Arc<Gate>,
    go: Sender<()>,
    handle: JoinHandle<Vec<IoBuffer>>,
}

impl Threads {
    /// Starts a thread for each queue and waits until each has made its queue ready.
    pub(crate) fn open<S: Service>(
        spec: &DeviceSpec,
        info: &sys::ublksrv_ctrl_dev_info,
        device: &Arc<UblkDev>,
        service: &Arc<S>,
        ended: &Ended,
    ) -> Result<Self, DeviceError> {
        let mut starting = Vec::new();
        let mut failed = None;
        for queue in 0..info.nr_hw_queues {
            let context = QueueContext {
                device: spec.id,
                queue,
                queues: info.nr_hw_queues,
                depth: info.queue_depth,
                limits: spec.limits(),
            };
            let (ready, outcome) = channel();
            let (go, may_go) = channel();
            let (device, service, ended) = (Arc::clone(device), Arc::clone(service), Arc::clone(ended));
            let handle = thread::Builder::new()
                .name(format!("ublk{}-q{queue}", spec.id.0))
                .spawn(move || queue_thread(context, &device, &*service, &ready, &may_go, &ended));
            match handle {
                Ok(handle) => starting.push((queue, outcome, go, handle)),
                Err(source) => {
                    failed = Some((queue, source));
                    break;
                }
            }
        }
        let mut queues = Vec::new();
        for (queue, outcome, go, handle) in starting {
            match outcome.recv() {
                Ok(Ok(gate)) => queues.push(Thread { gate, go, handle }),
                Ok(Err(source)) => {
                    let _ = handle.join();
                    failed = Some((queue, source));
                }
                // A panic ends the process before this can be seen.
                Err(_) => failed = Some((queue, io::Error::other("its thread ended"))),
            }
        }
        let threads = Self(queues);
        let Some((queue, source)) = failed else { return Ok(threads) };
        threads.dismiss();
        Err(DeviceError::QueueSetup { device: spec.id, name: spec.name.clone(), queue, source })
    }

    /// Lets them serve.
    pub(crate) fn go(&self) {
        for thread in &self.0 {
            // It waits for nothing else.
            let _ = thread.go.send(());
        }
    }

    /// Instead of `go`.
    pub(crate) fn dismiss(self) {
        for Thread { go, handle, .. } in self.0 {
            drop(go);
            let _ = handle.join();
        }
    }

    /// Lets them end without another answer.
    pub(crate) fn abandon(&self) {
        for thread in &self.0 {
            thread.gate.abandon();
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Waits for their end.
    pub(crate) fn join(self) {
        for thread in self.0 {
            // Its buffers are freed here, after its ring went with the thread.
            let _ = thread.handle.join();
        }
    }
}

fn queue_thread<S: Service>(
    context: QueueContext,
    device: &UblkDev,
    service: &S,
    ready: &Sender<io::Result<Arc<Gate>>>,
    may_go: &Receiver<()>,
    ended: &Ended,
) -> Vec<IoBuffer> {
    let _guard = AbortOnPanic;
    let queue = match Queue::open(context, device, service) {
        Ok(queue) => queue,
        Err(error) => {
            let _ = ready.send(Err(error));
            return Vec::new();
        }
    };
    let _ = ready.send(Ok(queue.gate()));
    // No word: another queue could not be made ready.
    let buffers = if may_go.recv().is_ok() { queue.serve() } else { Vec::new() };
    ended();
    buffers
}
