//! What a failing backing leads to.

use super::*;
use crate::outbox::{Mode, Outbox, Owner};
use crate::ring_io::{Blocking, block_on};
use record::chunk::Body;
use record::ids::{BootId, GroupId, JournalId};
use record::position::{Label, Session, StreamSeq};
use std::fs::File;
use std::io;

/// A ring on which writes of the backing fail; those of the dirty map are durable ones and succeed.
struct Failing;

impl RingIo for Failing {
    async fn read(&self, file: &File, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        Blocking.read(file, offset, buf).await
    }
    async fn write(&self, file: &File, offset: u64, buf: &[u8], dsync: bool) -> io::Result<()> {
        if dsync {
            return Blocking.write(file, offset, buf, dsync).await;
        }
        Err(io::Error::from_raw_os_error(libc::ENOSPC))
    }
    async fn sync(&self, _: &File) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(libc::EIO))
    }
    async fn fallocate(&self, _: &File, _: i32, _: u64, _: u64) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP))
    }
}

const JOURNAL: JournalId = JournalId::from_bytes([3; 16]);

fn map(dir: &tempfile::TempDir) -> DirtyMap {
    let size = record::geometry::SectorCount::from_bytes(4 << 20).unwrap();
    let (path, id) = (dir.path().join("v.map"), VolumeId::from_bytes([4; 16]));
    DirtyMap::open(&path, id, size, JOURNAL, crate::dirty_map::Missing::Clean).unwrap()
}

fn volume(dir: &tempfile::TempDir) -> Volume {
    let path = dir.path().join("backing");
    File::create(&path).unwrap().set_len(4 << 20).unwrap();
    let owner = Owner { boot: BootId::from_bytes([1; 16]), group: GroupId::from_bytes([2; 16]), journal: JOURNAL };
    let (outbox, _) = Outbox::open(&dir.path().join("box"), owner, 4, Mode::Waiting).unwrap();
    let stream = Stream::new("g", outbox, None, Mode::Waiting, None, crate::clock::of_host);
    stream.begin(Session::new(1), Mode::Active, Label::default());
    Volume {
        name: "v".into(),
        id: VolumeId::from_bytes([4; 16]),
        incarnation: Incarnation::new(1),
        backing: Backing::open(&path, None).unwrap(),
        map: map(dir),
        stream: Arc::new(stream),
        jobs: Jobs::default(),
        counts: Counts::default(),
        sync: Synchronisation::default(),
    }
}

fn laid(volume: &Volume) -> Vec<(Op, Option<Extent>)> {
    let Some(chunk) = volume.stream.chunk_from(StreamSeq::FIRST, true) else { return Vec::new() };
    let bytes = std::fs::read(volume.stream.outbox_path()).unwrap();
    let at = usize::try_from(chunk.header_at).unwrap();
    let body = Body::decode(&bytes[at..at + chunk.header_len as usize], JOURNAL).unwrap();
    body.records.iter().map(|r| (r.descriptor.op, r.descriptor.extent)).collect()
}

#[test]
fn a_failed_write_is_answered_with_its_errno_and_recorded_as_indeterminate_first() {
    let dir = tempfile::tempdir().unwrap();
    let volume = volume(&dir);
    let extent = Extent::new(8, 8).unwrap();
    let mut buffer = vec![1; 4096];
    let answer = block_on(volume.serve(Kind::Write { extent, fua: false }, &mut buffer, &Failing));
    assert_eq!(answer, Err(Errno::ENOSPC));
    assert_eq!(laid(&volume), vec![(Op::Write, Some(extent)), (Op::Indeterminate, Some(extent))]);
    assert!(volume.stream.wait_idle(std::time::Duration::from_secs(1)), "its extent was given back");
    assert_eq!(volume.counts.get().errors, 1);
}

#[test]
fn a_failed_flush_is_told_and_leaves_no_flush_in_the_history() {
    let dir = tempfile::tempdir().unwrap();
    let volume = volume(&dir);
    assert_eq!(block_on(volume.serve(Kind::Flush, &mut [], &Failing)), Err(Errno::EIO));
    assert_eq!(laid(&volume), vec![]);
    assert_eq!(block_on(volume.serve(Kind::Flush, &mut [], &Blocking)), Ok(()));
    assert_eq!(laid(&volume), vec![(Op::Flush, None)]);
}

#[test]
fn zeroing_is_a_punch_unless_it_must_keep_its_allocation() {
    let dir = tempfile::tempdir().unwrap();
    let volume = volume(&dir);
    let extent = Extent::new(1, 3).unwrap();
    for kind in [
        Kind::Discard(extent),
        Kind::WriteZeroes { extent, nounmap: false, fua: false },
        Kind::WriteZeroes { extent, nounmap: true, fua: true },
    ] {
        assert_eq!(block_on(volume.serve(kind, &mut [], &Blocking)), Ok(()));
    }
    let ops: Vec<_> = laid(&volume).into_iter().map(|(op, _)| op).collect();
    assert_eq!(ops, vec![Op::Punch, Op::Punch, Op::Zero]);
}

/// A ring on which nothing can be made durable at once: the dirty map, headers and all.
struct NoMap;

impl RingIo for NoMap {
    async fn read(&self, file: &File, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        Blocking.read(file, offset, buf).await
    }
    async fn write(&self, file: &File, offset: u64, buf: &[u8], dsync: bool) -> io::Result<()> {
        if dsync {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        Blocking.write(file, offset, buf, dsync).await
    }
    async fn sync(&self, file: &File) -> io::Result<()> {
        Blocking.sync(file).await
    }
    async fn fallocate(&self, file: &File, mode: i32, offset: u64, len: u64) -> io::Result<()> {
        Blocking.fallocate(file, mode, offset, len).await
    }
}

#[test]
fn a_write_whose_region_cannot_be_marked_is_refused_before_anything_is_laid_or_written() {
    let dir = tempfile::tempdir().unwrap();
    let volume = volume(&dir);
    let write = Kind::Write { extent: Extent::new(8, 8).unwrap(), fua: false };
    let mut data = crate::backing::AlignedBuffer::new(4096);
    data.bytes_mut().fill(9);
    assert_eq!(block_on(volume.serve(write, data.bytes_mut(), &NoMap)), Err(Errno::EIO));
    assert_eq!(volume.stream.mode().0, Mode::Marking);
    assert_eq!(laid(&volume), []);
    assert!(volume.stream.is_idle());
    block_on(volume.serve(Kind::Read(Extent::new(8, 8).unwrap()), data.bytes_mut(), &NoMap)).unwrap();
    assert!(data.bytes().iter().all(|byte| *byte == 0), "the backing was not touched");
}
