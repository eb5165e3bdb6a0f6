//! Goal: what is flown lies where it should, each write is told of once, and nothing is under way behind a flight,
//! whatever happens in it. Method: a real file, through the ring.

use crate::device::{Access, Aligned, Disk, DiskFile, Flight, IN_FLIGHT_MAX, Part, RealDisk};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

const BLOCK: usize = 4096;

struct World {
    disk: RealDisk,
    file: Arc<dyn DiskFile>,
    _folder: tempfile::TempDir,
}

fn world(blocks: usize) -> World {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = RealDisk::new(folder.path());
    let file = disk.create("f", (blocks * BLOCK) as u64, Access::Durable).expect("a file");
    World { disk, file, _folder: folder }
}

fn block(n: usize) -> Aligned {
    let mut block = Aligned::zeroed(BLOCK);
    block.fill(u8::try_from(n % 251).expect("a byte") + 1);
    block
}

fn content(world: &World, blocks: usize) -> Vec<u8> {
    let mut read = Aligned::zeroed(blocks * BLOCK);
    assert_eq!(world.file.read_at(&mut read, 0).expect("read"), blocks * BLOCK);
    read.to_vec()
}

#[test]
fn every_write_lands_once_and_lies_where_it_should() {
    const WRITES: usize = 40;
    let world = world(2 * WRITES);
    let lent: Vec<Aligned> = (0..WRITES).map(|n| block(2 * n + 1)).collect();
    let mut told = [0; WRITES];
    let mut begun = 0;
    world.file.fly(false, &mut |flight| {
        loop {
            while begun < WRITES && begun < told.iter().sum::<usize>() + IN_FLIGHT_MAX {
                let parts = vec![Part::Own(block(2 * begun)), Part::of(&lent[begun])];
                flight.begin(parts, (2 * begun * BLOCK) as u64);
                begun += 1;
            }
            let Some((n, outcome)) = flight.wait() else { break };
            outcome.expect("written");
            told[n] += 1;
        }
    });
    assert_eq!(told, [1; WRITES]);
    for (n, found) in content(&world, 2 * WRITES).chunks_exact(BLOCK).enumerate() {
        assert!(*found == *block(n), "block {n}");
    }
}

#[test]
fn behind_a_flight_nothing_is_under_way_even_if_it_ended_in_a_panic() {
    let world = world(IN_FLIGHT_MAX);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        world.file.fly(false, &mut |flight: &mut dyn Flight<'_>| {
            for n in 0..IN_FLIGHT_MAX {
                flight.begin(vec![Part::Own(block(n))], (n * BLOCK) as u64);
            }
            std::panic::resume_unwind(Box::new(()));
        });
    }));
    assert!(panicked.is_err());
    for (n, found) in content(&world, IN_FLIGHT_MAX).chunks_exact(BLOCK).enumerate() {
        assert!(*found == *block(n), "block {n}");
    }
}

#[test]
fn a_write_that_fails_says_so() {
    let world = world(1);
    for alone in [false, true] {
        let mut outcome = None;
        world.file.fly(alone, &mut |flight| {
            // Beyond the largest offset of any file.
            flight.begin(vec![Part::Own(block(0))], 1 << 62);
            outcome = flight.wait();
            assert!(flight.wait().is_none());
        });
        let (n, outcome) = outcome.expect("it is told of");
        assert!(n == 0 && outcome.is_err(), "{outcome:?}");
    }
}

#[test]
fn a_write_that_flies_alone_is_done_when_it_has_begun() {
    let (world, lent) = (world(2), block(6));
    world.file.fly(true, &mut |flight| {
        flight.begin(vec![Part::Own(block(5)), Part::of(&lent)], 0);
        let (n, outcome) = flight.done().expect("nobody has to be waited for");
        assert!(n == 0 && outcome.is_ok(), "{outcome:?}");
    });
    assert!(content(&world, 2) == [&block(5)[..], &lent[..]].concat());
}

#[test]
fn a_file_that_is_flown_by_one_cannot_be_flown_by_another_and_a_successor_waits() {
    let world = world(1);
    world.file.fly(false, &mut |flight| {
        flight.begin(vec![Part::Own(block(3))], 0);
    });
    let other = world.disk.open("f", Access::Durable).expect("open");
    let mut outcome = None;
    other.fly(false, &mut |flight| {
        flight.begin(vec![Part::Own(block(4))], 0);
        outcome = flight.wait();
    });
    assert!(outcome.expect("told").1.is_err());
    assert!(content(&world, 1) == *block(3));
    let World { disk, file, _folder } = world;
    let waiting = std::thread::spawn(move || {
        disk.wait_for_writers("f").expect("wait");
        disk
    });
    assert!(!waiting.is_finished());
    drop(file);
    let disk = waiting.join().expect("it ends once the file is let go");
    assert!(disk.wait_for_writers("nothing").is_err());
}
