//! Serving the requests of an image device.
//!
//! Owns the translation from requests to reads of the journal and of the overlay, and which failure a host sees:
//! `EIO` for exactly the request that needs damaged sectors, `ENOSPC` for an overlay that is full, `EROFS` for any
//! change of a read-only image. What a read-only image needs of the log is read through the queue's ring, so that requests
//! do not wait for each other's; finding out what that is, replicas and overlays still block the queue's thread.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use journal::{At, Image, ReadFailure, Reading};
use record::geometry::Extent;
use record::ids::Incarnation;
use ublk_device::{Errno, IoBuffer, Kind, QueueContext, QueueService, Request, Ring, Service};

use super::overlay::{Below, Overlay, OverlayError, ReadError};

/// Failures that are logged; a reader that tries again and again must not flood the log.
const FAILURES_LOGGED: u32 = 16;

/// One volume of an image, as its device serves it.
#[derive(Debug)]
pub struct ImageService {
    below: Past,
    name: String,
    overlay: Option<Mutex<Overlay>>,
    failures: AtomicU32,
}

/// A volume as it was.
#[derive(Debug)]
struct Past {
    image: Image,
    volume: Incarnation,
}

impl Below for Past {
    type Error = ReadFailure;

    fn read(&self, extent: Extent, out: &mut [u8]) -> Result<(), ReadFailure> {
        self.image.read(self.volume, extent, out)
    }
}

impl ImageService {
    /// A volume of an image; writable when there is an overlay.
    pub fn new(image: Image, volume: Incarnation, name: &str, overlay: Option<Overlay>) -> Self {
        Self {
            below: Past { image, volume },
            name: name.to_owned(),
            overlay: overlay.map(Mutex::new),
            failures: AtomicU32::new(0),
        }
    }

    /// Which moment.
    pub fn at(&self) -> At {
        self.below.image.at()
    }

    /// Whether hosts may write.
    pub fn is_writable(&self) -> bool {
        self.overlay.is_some()
    }

    /// Bytes in the overlay, and its bound; `None` for a read-only image.
    pub fn overlay_bytes(&self) -> Option<(u64, u64)> {
        self.overlay.as_ref().map(|overlay| {
            let overlay = lock(overlay);
            (overlay.used_bytes(), overlay.max_bytes())
        })
    }

    /// One request, with as many bytes of the buffer as it has data.
    pub fn serve(&self, kind: Kind, buffer: &mut [u8]) -> Result<(), Errno> {
        let data = |extent: Extent| usize::try_from(extent.bytes()).map_err(|_| Errno::EINVAL);
        match kind {
            Kind::Read(extent) => {
                let out = buffer.get_mut(..data(extent)?).ok_or(Errno::EINVAL)?;
                self.read(extent, out)
            }
            Kind::Write { extent, fua: _ } => {
                let bytes = buffer.get(..data(extent)?).ok_or(Errno::EINVAL)?;
                self.change(|overlay| overlay.write(extent, bytes))
            }
            // An overlay is thrown away with the process: there is nothing to make durable.
            Kind::Flush => Ok(()),
            Kind::Discard(extent) | Kind::WriteZeroes { extent, nounmap: _, fua: _ } => {
                self.change(|overlay| overlay.zero(extent))
            }
        }
    }

    /// A read of a read-only image begins: what can be read beside others has been found out, not yet read. `None`: it is
    /// no such read.
    pub fn begin(&self, kind: Kind) -> Option<Result<Reading, ReadFailure>> {
        match (kind, &self.overlay) {
            (Kind::Read(extent), None) => Some(self.below.image.begin(self.below.volume, extent)),
            (
                Kind::Read(_) | Kind::Write { .. } | Kind::Flush | Kind::Discard(_) | Kind::WriteZeroes { .. },
                Some(_) | None,
            ) => None,
        }
    }

    /// What was begun ends, with all that was read; `out` is as long as the extent.
    pub fn finish(&self, begun: Result<Reading, ReadFailure>, extent: Extent, out: &mut [u8]) -> Result<(), Errno> {
        let outcome = begun.and_then(|reading| reading.finish(out));
        self.told(extent, out, outcome.map_err(ReadError::Below))
    }

    fn read(&self, extent: Extent, out: &mut [u8]) -> Result<(), Errno> {
        let outcome = match &self.overlay {
            Some(overlay) => lock(overlay).read(&self.below, extent, out),
            None => self.below.read(extent, out).map_err(ReadError::Below),
        };
        self.told(extent, out, outcome)
    }

    /// The host's answer; what could not be read is logged.
    fn told(&self, extent: Extent, out: &mut [u8], outcome: Result<(), ReadError<ReadFailure>>) -> Result<(), Errno> {
        outcome.map_err(|error| {
            // What could be read must not look as if all could.
            out.fill(0);
            match error {
                ReadError::Below(failure) => {
                    if self.failures.fetch_add(1, Ordering::Relaxed) < FAILURES_LOGGED {
                        tracing::error!(volume = self.name, %extent, error = %failure, "an image cannot be read there");
                    }
                    Errno::EIO
                }
                ReadError::Scratch(e) => {
                    tracing::error!(volume = self.name, error = %e, "the scratch file of an image cannot be read");
                    Errno::EIO
                }
            }
        })
    }

    fn change(&self, f: impl FnOnce(&mut Overlay) -> Result<(), OverlayError>) -> Result<(), Errno> {
        let Some(overlay) = &self.overlay else { return Err(Errno::EROFS) };
        f(&mut lock(overlay)).map_err(|error| match error {
            OverlayError::Full => {
                if self.failures.fetch_add(1, Ordering::Relaxed) < FAILURES_LOGGED {
                    tracing::warn!(volume = self.name, "the overlay of a writable image is full");
                }
                Errno::ENOSPC
            }
            OverlayError::Scratch(e) => {
                tracing::error!(volume = self.name, error = %e, "the scratch file of an image cannot be written");
                Errno::EIO
            }
        })
    }
}

/// Has all that can be read through the ring read at once.
async fn fetch(reading: &mut Reading, buffer: &mut [u8], ring: &Ring) {
    let (numbers, reads): (Vec<_>, Vec<_>) = reading.direct(buffer).into_iter().unzip();
    let outcomes = ring.read_all(reads).await;
    for (number, outcome) in numbers.into_iter().zip(outcomes) {
        reading.done(number, outcome);
    }
}

fn lock(overlay: &Mutex<Overlay>) -> MutexGuard<'_, Overlay> {
    overlay.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An image as `ublk-device` serves it; cloned freely.
#[derive(Clone, Debug)]
pub struct ImageTarget(pub Arc<ImageService>);

impl Service for ImageTarget {
    type Queue = Self;

    fn open_queue(&self, _: QueueContext) -> io::Result<Self::Queue> {
        Ok(self.clone())
    }
}

impl QueueService for ImageTarget {
    async fn handle(&self, request: Request, buffer: &mut IoBuffer, ring: &Ring) -> Result<(), Errno> {
        let (Some(mut begun), Some(extent)) = (self.0.begin(request.kind), request.kind.extent()) else {
            return self.0.serve(request.kind, buffer);
        };
        let bytes = usize::try_from(extent.bytes()).map_err(|_| Errno::EINVAL)?;
        let out = buffer.get_mut(..bytes).ok_or(Errno::EINVAL)?;
        if let Ok(reading) = &mut begun {
            fetch(reading, out, ring).await;
        }
        self.0.finish(begun, extent, out)
    }
}
