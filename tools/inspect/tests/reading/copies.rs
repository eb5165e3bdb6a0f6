//! A host may write anything: also a copy of the very journal that its writes go to.
//!
//! Somebody copies the journal's directory to a volume that it protects. Payloads then hold chunks that are genuine to
//! the last bit, of the same journal, in a place where they are nothing but data. Whatever is damaged or torn around
//! them, none of them may ever be taken for a part of the history.

use crate::made::{extent, inspect};
use journal::place::SegmentNumber;
use journal::{Create, JoinRequest, Journal, Reader};
use kit::Laying;
use record::conversation::Continuation;
use record::geometry::{LogicalBlock, SectorCount};
use record::header::HEADER_BYTES;
use record::ids::{GroupId, Incarnation, JournalId, SplitterId, VolumeId};
use record::position::{Label, Position, SplitterIncarnation};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use tempfile::TempDir;

const JOURNAL: JournalId = JournalId::from_bytes(*b"journal of tests");
/// Bytes that are copied: all chunks that there are at that time.
const COPIED: usize = 256 * 1024;

struct History {
    folder: TempDir,
    volume: Incarnation,
    /// The volume behind each position, from the one at which it joined.
    images: Vec<(u64, Vec<u8>)>,
}

/// Eight writes, a write of all of the journal so far, two more writes; killed.
fn history() -> History {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal");
    let now = Label::from_nanos(1_795_341_600_000_000_000);
    let (group, group_name) = (GroupId::from_bytes([7; 16]), "shop".into());
    let segment_bytes = Create::SEGMENT_BYTES_MIN;
    Journal::create(&path, &Create { journal: JOURNAL, group, group_name, now, segment_bytes })
        .expect("make a journal");
    let journal = Journal::open(&path).expect("open it").journal;
    let request = JoinRequest {
        volume: VolumeId::from_bytes([1; 16]),
        name: "data".into(),
        size: SectorCount::new(2048).expect("a size"),
        block: LogicalBlock::SECTOR,
        splitter: SplitterId::from_bytes([9; 16]),
    };
    let volume = journal.join(&request, now).expect("join");
    let replica = folder.path().join("replica");
    std::fs::write(&replica, vec![0; 2048 * 512]).expect("the replica");
    journal.attach_base(volume, &replica).expect("attach it");
    let joined = journal.joined(volume, now).expect("joined");
    let granted = journal
        .grant(request.splitter, SplitterIncarnation::FIRST, &Continuation::Lost { reason: "the first session".into() })
        .expect("a session");
    let mut laying = Laying::new(JOURNAL, granted.session, granted.expected, granted.label);
    let mut now = vec![0; 2048 * 512];
    let mut images = vec![(joined.get(), now.clone())];
    let mut write = |start: usize, data: Vec<u8>| {
        laying.write(volume, extent(start as u64, data.len() as u64 / 512), data.clone());
        let chunk = laying.seal().expect("a chunk");
        journal.append_many(granted.session, &[(&chunk.header, &chunk.payload)]).expect("append it");
        now[start * 512..start * 512 + data.len()].copy_from_slice(&data);
        images.push((journal.reader().timeline().head.position.get(), now.clone()));
    };
    for n in 0..8u8 {
        write(8 * usize::from(n % 4), vec![n + 1; 4096]);
    }
    let segment = std::fs::read(path.join(SegmentNumber::FIRST.file())).expect("the segment");
    write(1024, segment[4096..4096 + COPIED].to_vec());
    write(0, vec![0xaa; 4096]);
    write(8, vec![0xbb; 4096]);
    drop(journal);
    History { folder, volume, images }
}

impl History {
    fn path(&self) -> PathBuf {
        self.folder.path().join("journal")
    }

    fn dir(&self) -> String {
        self.path().to_str().expect("UTF-8").to_owned()
    }

    /// The records as they stand: position, and where their chunk's journal header is.
    fn places(&self) -> Vec<(u64, u64)> {
        let ran = inspect(&["dump", &self.dir(), "--json"]);
        let records = ran.out.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
        records.filter_map(|r| Some((r["position"].as_u64()?, r["offset"].as_u64()?))).collect()
    }

    fn place(&self, position: u64) -> u64 {
        self.places().into_iter().find(|(p, _)| *p == position).expect("a record").1
    }

    /// The position of the write that holds the copy.
    fn copying(&self) -> u64 {
        self.images[9].0
    }

    /// Overwrites a chunk's journal header, as rot or a torn write does.
    fn ruin(&self, offset: u64) {
        let path = self.path().join(SegmentNumber::FIRST.file());
        let file = std::fs::File::options().write(true).open(path).expect("open the segment");
        file.write_all_at(&[0; HEADER_BYTES], offset).expect("write to it");
        file.sync_all().expect("sync it");
    }

    fn reader(&self) -> Reader {
        let (reader, _) = Reader::open(&self.path()).expect("open the journal");
        reader.attach_base(self.volume, &self.folder.path().join("replica")).expect("attach the replica");
        reader
    }

    /// The image at a position, or the sectors that are refused.
    fn image(&self, reader: &Reader, position: u64) -> Result<Vec<u8>, Vec<u64>> {
        let image = reader.image(Position::new(position)).expect("a point");
        let mut bytes = vec![0; 2048 * 512];
        match image.read(self.volume, extent(0, 2048), &mut bytes) {
            Ok(()) => Ok(bytes),
            Err(failure) => Err(failure.damaged.iter().flat_map(|e| e.start().index()..e.end()).collect()),
        }
    }
}

#[test]
fn the_copies_are_in_the_journal_and_the_history_is_right() {
    let history = history();
    let segment = std::fs::read(history.path().join(SegmentNumber::FIRST.file())).expect("the segment");
    let first = history.place(1);
    let header = &segment[usize::try_from(first).expect("small")..][..HEADER_BYTES];
    let found = segment.chunks_exact(4096).filter(|block| *block == header).count();
    assert_eq!(found, 2, "the first chunk's header and its copy, both on a 4 KiB boundary");
    let reader = history.reader();
    for (position, wanted) in &history.images {
        assert!(history.image(&reader, *position).as_ref() == Ok(wanted), "seq:{position}");
    }
}

#[test]
fn behind_a_torn_tail_that_holds_copies_the_journal_goes_on_where_it_ended() {
    let history = history();
    // The power fails while the chunk with the copies is written: its header is lost, its payload is there. What was
    // behind it never was.
    let at = history.place(history.copying());
    let path = history.path().join(SegmentNumber::FIRST.file());
    for later in [history.place(history.images[10].0), history.place(history.images[11].0)] {
        history.ruin(later);
    }
    history.ruin(at);
    let genuine: Vec<(u64, u64)> = history.places().into_iter().filter(|(p, _)| *p < history.copying()).collect();
    let opened = Journal::open(&history.path()).expect("open the journal");
    let journal = opened.journal;
    assert_eq!(opened.report.recovered.get(), history.copying() - 1, "{:?}", opened.report);
    assert!(opened.report.damage.is_empty(), "a torn tail is no damage: {:?}", opened.report);
    let cut = opened.report.cut.map(|cut| cut.offset);
    assert!(cut.is_none_or(|cut| cut == at), "cut at {cut:?}, torn at {at}");
    journal.close().expect("close it");
    let file = std::fs::File::open(&path).expect("the segment");
    let mut magic = [0; 4];
    file.read_exact_at(&mut magic, at).expect("read it");
    assert_eq!(&magic, b"UDJC", "RECOVERY stands where the torn chunk stood");
    let places: Vec<(u64, u64)> = history.places().into_iter().filter(|(p, _)| *p < history.copying()).collect();
    assert_eq!(places, genuine, "every chunk is where it was written");
    assert_eq!(inspect(&["verify", &history.dir()]).status, 0);
    let reader = history.reader();
    for (position, wanted) in history.images.iter().filter(|(p, _)| *p < history.copying()) {
        assert!(history.image(&reader, *position).as_ref() == Ok(wanted), "seq:{position}");
    }
}

#[test]
fn a_damaged_chunk_is_not_replaced_by_its_copy_and_costs_nothing_behind_it() {
    let history = history();
    // The sixth write, to sectors 8..16, is rotten; in a segment that is not sealed nothing else knows of it.
    let (lost, _) = history.images[6];
    history.ruin(history.place(lost));
    let ran = inspect(&["verify", &history.dir(), "--json"]);
    assert_eq!(ran.status, 1, "{ran:?}");
    let report: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
    let damage: Vec<_> =
        report["findings"].as_array().expect("findings").iter().filter(|f| f["severity"] == "damage").collect();
    assert_eq!(damage.len(), 1, "{report}");
    assert_eq!(damage[0]["positions"], serde_json::json!([lost, lost]), "{report}");
    let reader = history.reader();
    for (position, wanted) in &history.images {
        match history.image(&reader, *position) {
            Ok(bytes) => assert!(bytes == *wanted, "seq:{position}"),
            Err(refused) => {
                assert!(*position >= lost, "seq:{position} is before the damage, and {refused:?} refused");
                // What was written since is right.
                let since = history.images.iter().filter(|(p, _)| *p > lost && p <= position).count();
                assert!(since < 5 || !refused.contains(&0), "seq:{position}: {refused:?}");
            }
        }
    }
}
