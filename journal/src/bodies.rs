//! What a chunk's records say, read again from where the chunk stands.
//!
//! Owns a bounded amount of bodies that were read lately. Every one is checked in full - its own checksums, and that it
//! is the body that this journal took in at this place - before anybody sees it. Where a header area is damaged the
//! copy in the segment's footer serves.

use crate::aligned::Aligned;
use crate::chunks::Kept;
use crate::files::Files;
use crate::footer;
use crate::lately::Lately;
use crate::lock::lock;
use crate::place::Place;
use record::chunk::Body;
use record::ids::JournalId;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex};

/// Most records in all bodies that are kept; one takes some 150 bytes.
const RECORDS_MAX: usize = 100_000;
/// What a body takes beside its records, in records.
const BESIDE: usize = 4;

/// Bodies that were read lately.
#[derive(Debug)]
pub(crate) struct Bodies {
    journal: JournalId,
    lately: Mutex<Lately<Place, Arc<Body>, RECORDS_MAX>>,
}

impl Bodies {
    pub(crate) fn new(journal: JournalId) -> Self {
        Self { journal, lately: Mutex::default() }
    }

    /// The body of a chunk.
    pub(crate) fn of(&self, files: &Files, chunk: &Kept) -> io::Result<Arc<Body>> {
        if let Some(body) = lock(&self.lately).find(chunk.place) {
            return Ok(body);
        }
        let body = self.read(files, chunk)?;
        lock(&self.lately).keep_weighing(chunk.place, body.clone(), body.records.len() + BESIDE);
        Ok(body)
    }

    /// The same, without keeping it: for whoever reads many of them once.
    pub(crate) fn read(&self, files: &Files, chunk: &Kept) -> io::Result<Arc<Body>> {
        self.read_where(files, chunk).map(|(body, _)| body)
    }

    /// The same, and whether the segment itself has it: if not, the footer serves.
    pub(crate) fn read_where(&self, files: &Files, chunk: &Kept) -> io::Result<(Arc<Body>, bool)> {
        let here = self.in_segment(files, chunk).map(|body| (Arc::new(body), true));
        here.or_else(|error| self.in_footer(files, chunk).map(|body| (body, false)).ok_or(error))
    }

    fn in_segment(&self, files: &Files, chunk: &Kept) -> io::Result<Body> {
        let at = chunk.area_at();
        let mut area = Aligned::zeroed(chunk.area_bytes as usize);
        let read = files.segment(at.segment)?.read_at(&mut area, at.offset)?;
        Body::decode(&area[..read], self.journal).ok().filter(|body| chunk.is_of(body)).ok_or_else(|| {
            io::Error::new(ErrorKind::InvalidData, "the descriptions of the chunk's records are damaged")
        })
    }

    fn in_footer(&self, files: &Files, chunk: &Kept) -> Option<Arc<Body>> {
        let segment = chunk.place.segment;
        let file = files.segment(segment).ok()?;
        let entries = footer::read(file.as_ref(), file.len().ok()?, self.journal, segment)?.entries;
        entries.into_iter().find(|entry| entry.offset == chunk.place.offset && chunk.is_of(&entry.body)).map(|e| e.body)
    }
}
