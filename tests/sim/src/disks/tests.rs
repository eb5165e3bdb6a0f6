//! What a disk forgets at a power cut, and what it must not.

use super::*;
use crate::executor::Step;
use crate::time;
use std::cell::Cell;
use std::future::Future;

struct Bench {
    _folder: tempfile::TempDir,
    executor: Executor,
    disks: Disks,
    file: Rc<File>,
}

fn bench(seed: u64) -> Bench {
    time::begin();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    File::create(&path).unwrap().set_len(64 * 1024).unwrap();
    let dice = Dice::new(seed);
    let executor = Executor::new(&dice);
    let disks = Disks::new(&executor, &dice);
    disks.adopt(&path, Kind::Backing).unwrap();
    let file = Rc::new(OpenOptions::new().read(true).write(true).open(&path).unwrap());
    Bench { _folder: folder, executor, disks, file }
}

impl Bench {
    fn spawn<F: Future<Output = ()> + 'static>(&self, work: impl FnOnce(Disks, Rc<File>) -> F) {
        self.executor.spawn(Owner::Splitter, work(self.disks.clone(), Rc::clone(&self.file)));
    }

    fn run(&self) {
        while self.executor.step() != Step::Idle {}
    }

    fn sector(&self, at: u64) -> u8 {
        let mut buffer = [0; SECTOR];
        self.file.read_exact_at(&mut buffer, at * SECTOR as u64).unwrap();
        assert!(buffer.iter().all(|b| *b == buffer[0]), "a sector is written as a whole");
        buffer[0]
    }
}

#[test]
fn what_was_flushed_or_written_through_survives_and_the_rest_may_not() {
    let (mut lost, mut kept) = (0, 0);
    for seed in 0..40 {
        let bench = bench(seed);
        bench.spawn(|disks, file| async move {
            disks.write(&file, 0, &[1; 1024], false).await.unwrap();
            disks.sync(&file).await.unwrap();
            disks.write(&file, 1024, &[2; 1024], true).await.unwrap();
            disks.write(&file, 0, &[3; 512], false).await.unwrap();
        });
        bench.run();
        assert_eq!((bench.sector(0), bench.sector(1), bench.sector(2)), (3, 1, 2));
        bench.disks.power_cut().unwrap();
        assert_eq!((bench.sector(1), bench.sector(2), bench.sector(3)), (1, 2, 2));
        match bench.sector(0) {
            1 => lost += 1,
            3 => kept += 1,
            other => panic!("nobody wrote {other}"),
        }
    }
    assert!(lost > 5 && kept > 5, "lost {lost} times, kept {kept} times");
}

#[test]
fn a_flush_that_runs_already_says_nothing_of_what_ends_meanwhile() {
    let mut lost = 0;
    for seed in 0..60 {
        let bench = bench(seed);
        let flushed = Rc::new(Cell::new(false));
        let its = Rc::clone(&flushed);
        bench.disks.set_weather(Weather { slowness: 50, ..Weather::default() });
        bench.spawn(|disks, file| async move {
            disks.sync(&file).await.unwrap();
            its.set(true);
        });
        bench.executor.step();
        bench.disks.set_weather(Weather::default());
        bench.spawn(|disks, file| async move { disks.write(&file, 0, &[1; 512], false).await.unwrap() });
        while !flushed.get() {
            bench.executor.step();
        }
        if bench.sector(0) == 1 {
            bench.disks.power_cut().unwrap();
            lost += u32::from(bench.sector(0) == 0);
        }
    }
    assert!(lost > 5, "lost {lost} times");
}

#[test]
fn what_a_dead_process_had_in_flight_still_lands() {
    let bench = bench(3);
    bench.spawn(|disks, file| async move { disks.write(&file, 0, &[9; 4096], false).await.unwrap() });
    bench.executor.step();
    bench.executor.kill(Owner::Splitter);
    assert!(bench.disks.busy());
    bench.run();
    assert!(!bench.disks.busy());
    assert_eq!((bench.sector(0), bench.sector(7)), (9, 9));
}

#[test]
fn a_write_that_fails_may_have_done_a_part() {
    let mut parts = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let bench = bench(seed);
        bench.disks.set_weather(Weather { write_errors: 100, ..Weather::default() });
        bench.spawn(|disks, file| async move {
            disks.write(&file, 0, &[7; 2048], false).await.unwrap_err();
        });
        bench.run();
        parts.insert((0..4).filter(|at| bench.sector(*at) == 7).count());
    }
    assert!(parts.len() >= 4, "{parts:?}");
}
