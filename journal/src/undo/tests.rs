//! Captures by themselves.
//!
//! Goal: whatever is captured, replaced and dropped in whatever parts of blocks, what is read is what was captured last. Method: random
//! changes against a plain array, the files opened again now and then.

use super::{Captured, Change, Undo};
use crate::device::RealDisk;
use kit::Rng;
use record::geometry::Extent;
use record::ids::{Incarnation, JournalId};
use std::path::Path;
use std::sync::Arc;

/// A little more than a region, so that some changes lie in two.
const SECTORS: usize = 4300;

fn open(folder: &Path) -> Undo {
    Undo::new(JournalId::from_bytes([7; 16]), Arc::new(RealDisk::new(folder)), true)
}

/// By sector: not captured, or as what, and which byte it is full of.
type Model = Vec<Option<(Captured, u8)>>;

fn check(undo: &Undo, volume: Incarnation, model: &Model) {
    let whole = Extent::new(0, SECTORS as u64).expect("an extent");
    let mut next = 0;
    for (run, kind) in undo.kinds(volume, whole).expect("kinds") {
        let (from, to) =
            (usize::try_from(run.start().index()).expect("small"), usize::try_from(run.end()).expect("small"));
        assert_eq!(from, next);
        next = to;
        assert!(model[from..to].iter().all(|one| one.map(|(kind, _)| kind) == kind), "{run:?} {kind:?}");
        if kind == Some(Captured::Data) {
            let mut bytes = vec![0xaa; (to - from) * 512];
            undo.read(volume, run, &mut bytes).expect("sound data");
            for (sector, bytes) in model[from..to].iter().zip(bytes.chunks(512)) {
                assert!(bytes.iter().all(|byte| Some((Captured::Data, *byte)) == *sector));
            }
        }
    }
    assert_eq!(next, SECTORS);
}

#[test]
fn what_is_read_is_what_was_captured_last() {
    for seed in Rng::seeds(1, 24) {
        println!("SEED={seed}");
        let mut rng = Rng::new(seed);
        let folder = tempfile::tempdir().expect("a folder");
        let volume = Incarnation::new(3);
        let mut undo = open(folder.path());
        let mut model: Model = vec![None; SECTORS];
        for _ in 0..12 {
            let mut batch: Vec<(Incarnation, Extent, Change)> = Vec::new();
            for _ in 0..=rng.below(8) {
                let start = rng.below(SECTORS as u64);
                let count = (1 + rng.below(40)).min(SECTORS as u64 - start);
                let extent = Extent::new(start, count).expect("an extent");
                // One batch changes a sector once.
                if batch.iter().any(|(_, other, _)| other.overlaps(extent)) {
                    continue;
                }
                let byte = u8::try_from(1 + rng.below(255)).expect("small");
                let bytes = usize::try_from(extent.bytes()).expect("small");
                let (change, kind) = match rng.below(5) {
                    0 => (Change::Drop, None),
                    1 => (Change::Zero, Some(Captured::Zero)),
                    2 => (Change::Hole, Some(Captured::Hole)),
                    _ => (Change::Data(vec![byte; bytes]), Some(Captured::Data)),
                };
                for sector in extent.start().index()..extent.end() {
                    model[usize::try_from(sector).expect("small")] = kind.map(|kind| (kind, byte));
                }
                batch.push((volume, extent, change));
            }
            undo.commit(&batch).expect("commit");
            if rng.one_in(2) {
                undo = open(folder.path());
                undo.find().expect("find");
            }
            check(&undo, volume, &model);
        }
        undo.remove(volume).expect("remove");
        assert_eq!(undo.volumes().expect("volumes"), vec![]);
        check(&undo, volume, &vec![None; SECTORS]);
    }
}
