//! A bit flipped at every byte of a small journal.
//!
//! Goal: each sector of each image is right or refused, never wrong, whatever byte of whatever file rots; the journal
//! opens, or says why not, and the verifier does not break. Method: a small journal whose every image is known; one bit
//! of one byte changed on a copy of its disk; every image read again.
//!
//! `EVERY=n` takes every n-th byte, `EVERY=1` all of them; of the zeros that nothing was written to, 64 times fewer.

mod common;

use common::{Group, at, extent};
use journal::device::Aligned;
use journal::{JournalError, Reader};
use kit::{Rng, SimDisk};
use record::op::Op;

/// One byte in so many, unless told otherwise.
const EVERY: usize = 97;

/// A journal in which everything occurs: records of every kind, notes, a rollback, a commit; closed or not.
fn subject(closed: bool) -> Group {
    let mut rng = Rng::new(9);
    let mut group = Group::new(&[24]);
    let volume = group.volumes[0].number;
    for round in 0..3 {
        group.write(volume, extent(3 + round, 8));
        group.punch(volume, extent(1, 4));
        group.seal();
        group.lay_some(&mut rng);
        group.zero(volume, extent(12, 3));
        group.bookmark(&format!("b{round}"));
        group.mark(Op::Flush);
        assert!(group.send());
    }
    group.rollback(at(7));
    group.write(volume, extent(8, 16));
    assert!(group.send());
    group.journal.commit_idle().expect("commit");
    group.catch_up();
    if closed {
        group.journal.close().expect("close");
    }
    group
}

/// Every image that is shown, by sectors. Answers with how many sectors were refused.
fn right_or_refused(group: &Group, disk: &SimDisk) -> u64 {
    let reader = match Reader::open_on(disk.shared()) {
        Ok((reader, _)) => reader,
        Err(JournalError::SuperblockLost { .. } | JournalError::UnknownFormat { .. }) => return 0,
        Err(other) => panic!("a damaged journal opens for reading: {other}"),
    };
    let known: Vec<_> = reader.members().iter().map(|member| member.incarnation).collect();
    for volume in group.volumes.iter().filter(|volume| known.contains(&volume.number)) {
        reader.attach_base_device(volume.number, volume.base.clone()).expect("attach");
    }
    let mut refused = 0;
    for n in 1..=group.head().get() {
        let Ok(image) = reader.image(at(n)) else { continue };
        for member in image.members() {
            let whole = extent(0, member.size.get());
            let mut bytes = Aligned::copy_of(&vec![0xaa; usize::try_from(whole.bytes()).expect("small")]);
            let damaged = image.read(member.incarnation, whole, &mut bytes).err().map_or_else(Vec::new, |f| f.damaged);
            let expected = group.reference.bytes(member.incarnation, at(n));
            for (sector, (read, right)) in (0..).zip(bytes.chunks(512).zip(expected.chunks(512))) {
                if damaged.iter().any(|e| e.contains(extent(sector, 1))) {
                    refused += 1;
                } else {
                    assert!(read == right, "sector {sector} is wrong at seq:{n}");
                }
            }
        }
    }
    refused
}

#[test]
fn whatever_byte_rots_each_sector_is_right_or_refused() {
    let every = std::env::var("EVERY").ok().and_then(|n| n.parse::<usize>().ok()).unwrap_or(EVERY).max(1);
    let (mut flipped, mut refused) = (0, 0);
    for closed in [true, false] {
        let group = subject(closed);
        let disk = group.disk.killed();
        assert_eq!(right_or_refused(&group, &disk), 0);
        let mut rng = Rng::new(every as u64);
        for name in disk.names() {
            let content = disk.content(&name);
            for block in (0..content.len()).step_by(4096) {
                let bytes = &content[block..content.len().min(block + 4096)];
                let stride = if bytes.iter().all(|byte| *byte == 0) { every * 64 } else { every };
                let mut byte = rng.index(stride);
                while byte < bytes.len() {
                    let bit = 1 << rng.below(8);
                    disk.flip(&name, block + byte, bit);
                    refused += right_or_refused(&group, &disk);
                    if rng.one_in(16) {
                        journal::verify_disk(&disk, &mut |_, _| {}).ok();
                    }
                    disk.flip(&name, block + byte, bit);
                    flipped += 1;
                    byte += stride;
                }
            }
        }
        assert_eq!(right_or_refused(&group, &disk), 0);
    }
    println!("{flipped} bytes, {refused} sectors refused");
    assert!(refused > 0);
}
