//! The lag is told from the oldest record that is not durable, and never less than it is.

use super::*;

fn at(ms: u64) -> Now {
    Now { boot_ns: ms * 1_000_000, wall_ns: 0 }
}

fn seq(n: u64) -> StreamSeq {
    StreamSeq::new(n)
}

#[test]
fn what_is_durable_does_not_lag() {
    let mut meter = LagMeter::default();
    meter.laid(seq(1), 4096, at(0));
    meter.laid(seq(2), 4096, at(100));
    assert_eq!(meter.lag(seq(1), seq(3), at(150)), Lag { writes: 2, bytes: 8192, age: Duration::from_millis(150) });
    meter.durable(seq(2));
    assert_eq!(meter.lag(seq(2), seq(3), at(150)), Lag { writes: 1, bytes: 4096, age: Duration::from_millis(50) });
    meter.durable(seq(3));
    assert_eq!(meter.lag(seq(3), seq(3), at(900)), Lag::default());
}

#[test]
fn samples_are_bounded_and_the_lag_is_never_told_too_small() {
    let mut meter = LagMeter::default();
    for n in 0..10_000 {
        meter.laid(seq(n + 1), 512, at(n * 10));
    }
    assert!(meter.samples.len() <= SAMPLES);
    meter.durable(seq(5_000));
    let lag = meter.lag(seq(5_000), seq(10_001), at(100_000));
    assert!(lag.bytes >= 5_001 * 512 && lag.age >= Duration::from_secs(50), "{lag:?}");
}
