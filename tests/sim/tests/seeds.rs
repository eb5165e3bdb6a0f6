//! Goal: the product keeps its promises in every world. Method: two hundred seeds; one that fails names itself and the
//! command that replays it.

use sim::run::{self, How};

#[test]
fn two_hundred_worlds_pass() {
    let report = run::many(0..200, 2, 5, How::default());
    for (seed, failed) in &report.failed {
        eprintln!("seed {seed} failed: {}", failed.why);
        eprintln!("  replay: cargo run -p sim -- --from {seed} --seeds 1 --trace");
    }
    assert!(report.failed.is_empty(), "{} worlds failed", report.failed.len());
    let sums = &report.sums;
    assert!(sums.strikes > 1000 && sums.images > 2000 && sums.gaps > 20, "something happened in them: {sums:?}");
}

#[test]
fn a_seed_is_the_same_world_each_time() {
    for seed in 0..24 {
        let how = How { keep: seed % 2 == 1, bug: None };
        assert_eq!(run::one(seed, how), run::one(seed, How::default()), "seed {seed}");
    }
}
