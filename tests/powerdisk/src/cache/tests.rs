//! Goal: reads see every write; a cut loses only what was not flushed, and never puts older content over newer.
//!
//! Method: seeded changes on a small disk beside a plain array; after a cut each piece must hold one of the contents
//! that it had since the last flush.

use super::*;

const SIZE: u64 = 16 * 512;

#[derive(Debug)]
struct Memory(Vec<u8>);

impl Medium for Memory {
    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        into.copy_from_slice(&self.0[index(at)..index(at) + into.len()]);
        Ok(())
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.0[index(at)..index(at) + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn zero(&mut self, at: u64, len: u64) -> io::Result<()> {
        self.0[index(at)..index(at + len)].fill(0);
        Ok(())
    }
}

fn disk(room: u64) -> Disk<Memory> {
    Disk::new(Memory(vec![0; index(SIZE)]), SIZE, room)
}

fn all(disk: &Disk<Memory>) -> Vec<u8> {
    let mut bytes = vec![1; index(SIZE)];
    disk.read(0, &mut bytes).unwrap();
    bytes
}

#[test]
fn reads_see_every_write_and_every_zero() {
    for seed in 0..50 {
        let mut rng = Rng::new(seed);
        let mut disk = disk(if seed % 2 == 0 { 1 << 20 } else { 4096 });
        let mut plain = vec![0; index(SIZE)];
        for value in 1..200_u8 {
            let at = rng.below(16) * 512;
            let len = (1 + rng.below(6)) * 512;
            let len = len.min(SIZE - at);
            let durable = if rng.below(5) == 0 { Durable::Now } else { Durable::Later };
            if rng.below(4) == 0 {
                disk.zero(at, len, durable).unwrap();
                plain[index(at)..index(at + len)].fill(0);
            } else {
                disk.write(at, vec![value; index(len)], durable).unwrap();
                plain[index(at)..index(at + len)].fill(value);
            }
            if rng.below(30) == 0 {
                disk.flush().unwrap();
                assert_eq!(disk.volatile(), 0);
            }
            assert_eq!(all(&disk), plain, "seed {seed}, change {value}");
        }
    }
}

#[test]
fn a_cut_loses_only_what_was_not_flushed_and_order_stays() {
    let mut sum = Toll::default();
    for seed in 0..300 {
        let mut rng = Rng::new(seed);
        let mut disk = disk(1 << 20);
        // What each sector may hold: its content at the last flush, and every newer one; a FUA write forgets the older.
        let mut possible: Vec<Vec<u8>> = vec![vec![0]; 16];
        for value in 1..100_u8 {
            let (at, sectors) = (rng.below(14), 1 + rng.below(3));
            let sectors = sectors.min(16 - at);
            let durable = if rng.below(8) == 0 { Durable::Now } else { Durable::Later };
            disk.write(at * 512, vec![value; index(sectors * 512)], durable).unwrap();
            for sector in &mut possible[index(at)..index(at + sectors)] {
                if durable == Durable::Now {
                    sector.clear();
                }
                sector.push(value);
            }
            if rng.below(25) == 0 {
                disk.flush().unwrap();
                for sector in &mut possible {
                    sector.drain(..sector.len() - 1);
                }
            }
        }
        let toll = disk.cut(&mut rng, 512).unwrap();
        assert_eq!(toll.volatile, toll.kept + toll.lost + toll.torn);
        sum.kept += toll.kept;
        sum.lost += toll.lost;
        sum.torn += toll.torn;
        for (sector, bytes) in all(&disk).chunks(512).enumerate() {
            assert!(bytes.iter().all(|byte| *byte == bytes[0]), "seed {seed}: sector {sector} is torn within");
            assert!(possible[sector].contains(&bytes[0]), "seed {seed}: sector {sector} holds {}", bytes[0]);
        }
        assert_eq!(disk.volatile(), 0);
    }
    assert!(sum.kept > 500 && sum.lost > 500 && sum.torn > 500, "{sum}");
}

#[test]
fn the_same_seed_cuts_the_same() {
    let cut = |seed| {
        let mut disk = disk(1 << 20);
        for value in 1..50_u8 {
            disk.write(u64::from(value % 12) * 512, vec![value; 2048], Durable::Later).unwrap();
        }
        disk.cut(&mut Rng::new(seed), 512).unwrap();
        all(&disk)
    };
    assert_eq!(cut(7), cut(7));
    assert_ne!((0..8).map(cut).collect::<Vec<_>>(), (8..16).map(cut).collect::<Vec<_>>());
}

#[test]
fn pieces_lie_on_the_disk_not_in_the_request() {
    for seed in 0..40 {
        let mut disk = disk(1 << 20);
        disk.write(512, vec![9; 8 * 512], Durable::Later).unwrap();
        disk.cut(&mut Rng::new(seed), 4096).unwrap();
        let bytes = all(&disk);
        let first = &bytes[512..4096];
        assert!(first.iter().all(|byte| *byte == first[0]), "seed {seed}");
        assert_eq!(bytes[4096], bytes[4096 + 511], "seed {seed}");
    }
}

#[test]
fn what_lies_beyond_the_end_is_refused() {
    let mut disk = disk(1 << 20);
    assert!(disk.write(SIZE - 512, vec![0; 1024], Durable::Later).is_err());
    assert!(disk.zero(u64::MAX, 512, Durable::Later).is_err());
    assert!(disk.read(SIZE, &mut [0; 512]).is_err());
}
