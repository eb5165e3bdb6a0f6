//! What the dirty map costs a write whose region is marked already: holds and lets go of random 4 KiB extents of a hot set,
//! and prints nanoseconds for each. In a guest whose clock counts instructions, that is instructions.
//!
//! `dirty_map_cost FOLDER ROUNDS`; the map is a new file in FOLDER.

use record::geometry::{Extent, SectorCount};
use record::ids::{JournalId, VolumeId};
use std::io;
use std::path::Path;
use std::time::Instant;
use ublk_splitter::dirty_map::{DirtyMap, Missing};
use ublk_splitter::ring_io::{Blocking, block_on};

/// The hot set: 16 MiB in blocks of 4 KiB.
const BLOCKS: u64 = 4096;
const BLOCK_SECTORS: u64 = 8;

fn main() -> io::Result<()> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [folder, rounds] = words.as_slice() else { return Err(wrong("dirty_map_cost FOLDER ROUNDS")) };
    let rounds: u64 = rounds.parse().map_err(|_| wrong("ROUNDS is a number"))?;
    let size = SectorCount::new(BLOCKS * BLOCK_SECTORS * 3).ok_or_else(|| wrong("no sectors"))?;
    let (volume, journal) = (VolumeId::from_bytes([1; 16]), JournalId::from_bytes([2; 16]));
    let map = DirtyMap::open(&Path::new(folder).join("cost.map"), volume, size, journal, Missing::Clean)?;
    for block in 0..BLOCKS {
        once(&map, block)?;
    }
    let began = Instant::now();
    let mut at = 1_u64;
    for _ in 0..rounds {
        // A generator of full period: every block comes, in no order.
        at = at.wrapping_mul(5).wrapping_add(1) % BLOCKS;
        once(&map, at)?;
    }
    println!("{}", began.elapsed().as_nanos() / u128::from(rounds.max(1)));
    Ok(())
}

/// As a write does: hold, and let go.
fn once(map: &DirtyMap, block: u64) -> io::Result<()> {
    let extent = Extent::new(block * BLOCK_SECTORS, BLOCK_SECTORS).ok_or_else(|| io::Error::other("no extent"))?;
    let (held, settled) = map.hold(extent);
    let marked = if settled { Ok(()) } else { block_on(map.settle(&Blocking, extent)) };
    map.unpin(held);
    marked
}
