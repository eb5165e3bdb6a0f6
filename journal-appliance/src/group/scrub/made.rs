//! A journal for tests of what is done about rot.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use journal::{Create, JoinRequest};
use kit::{Laying, MemBase};
use record::conversation::Continuation;
use record::geometry::{Extent, LogicalBlock, SectorCount};
use record::ids::{GroupId, JournalId, SplitterId, VolumeId};
use record::position::{Label, SplitterIncarnation};

use super::*;

const ID: JournalId = JournalId::from_bytes([1; 16]);
/// How long a test waits for what has to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A journal with some writes, all bytes of them the same.
pub(in crate::group) fn journal(folder: &Path) -> Arc<Journal> {
    let now = Label::from_nanos(1_000);
    let create = Create {
        journal: ID,
        group: GroupId::from_bytes([2; 16]),
        group_name: "g".to_owned(),
        now,
        segment_bytes: Create::SEGMENT_BYTES_MIN,
    };
    let place = folder.join("journal");
    Journal::create(&place, &create).expect("create");
    let journal = Journal::open(&place).expect("open").journal;
    let splitter = SplitterId::from_bytes([3; 16]);
    let ask = JoinRequest {
        volume: VolumeId::from_bytes([4; 16]),
        name: "v".to_owned(),
        size: SectorCount::new(64).expect("a size"),
        block: LogicalBlock::SECTOR,
        splitter,
    };
    let volume = journal.join(&ask, now).expect("join");
    journal.attach_base_device(volume, Arc::new(MemBase::new(64))).expect("attach");
    journal.base_reset(volume).expect("reset");
    let none = Continuation::Lost { reason: "first".to_owned() };
    let grant = journal.grant(splitter, SplitterIncarnation::FIRST, &none).expect("grant");
    journal.joined(volume, now).expect("joined");
    let mut laying = Laying::new(ID, grant.session, grant.expected, now);
    for n in 0..8 {
        laying.write(volume, Extent::new(n * 8, 8).expect("an extent"), vec![0xab; 4096]);
        let body = laying.seal().expect("a chunk");
        journal.append_many(grant.session, &[(&body.header, &body.payload)]).expect("append");
    }
    Arc::new(journal)
}

/// Changes the first byte that is a write's.
pub(in crate::group) fn rot(folder: &Path) {
    let path = folder.join("journal/segments/00000001.seg");
    let bytes = fs::read(&path).expect("read");
    let at = bytes.windows(64).position(|bytes| bytes == [0xab; 64]).expect("data");
    let file = fs::OpenOptions::new().write(true).open(&path).expect("open");
    file.write_all_at(&[0xac], at as u64).expect("write");
    file.sync_all().expect("sync");
}

pub(in crate::group) fn until(what: &str, mut is: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}
