//! The index's figures on this machine, one line `RATIO name value` each.
//!
//! Goal: what `cargo xtask bench engine` reports of the index. Method: records without payload over a volume of 1 TiB,
//! uniform or 80/20 (80 % of them to a fifth of the volume), RECORDS of them (2,000,000 unless told otherwise), in a
//! process of its own for each distribution so that resident memory is what it says.
//!
//! `index_figures uniform|skewed`

use journal::index::{Content, HeadedIndex, Home, Index, Path, Resolved};
use record::geometry::{BLOCK_SECTORS, Extent, Sector};
use record::ids::Incarnation;
use record::position::Position;
use std::hint::black_box;
use std::time::Instant;

const VOLUME: Incarnation = Incarnation::new(1);
const BLOCKS: u64 = 1 << 28;

/// Nothing behind the head map.
#[derive(Debug, Default)]
struct Nothing;

impl Index for Nothing {
    fn insert(&mut self, _: Incarnation, _: Extent, _: Position, _: Content) {}
    fn resolve(&self, _: Incarnation, _: &Path, _: Extent) -> Vec<Resolved> {
        Vec::new()
    }
    fn touched(&self, _: Incarnation, _: &Path) -> Vec<Extent> {
        Vec::new()
    }
}

/// A multiplicative generator (Lehmer, 128 bit): fast, and the same everywhere.
struct Dice(u128);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(0xda94_2042_e4dd_58b5);
        let number = (self.0 >> 64) as u64;
        ((u128::from(number) * u128::from(limit)) >> 64) as u64
    }

    fn block(&mut self, skewed: bool) -> u64 {
        if !skewed {
            return self.below(BLOCKS);
        }
        let hot = BLOCKS / 5;
        if self.below(5) < 4 { self.below(hot) } else { hot + self.below(BLOCKS - hot) }
    }
}

fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)).and_then(|kib| kib.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

fn say(name: &str, value: f64) {
    println!("RATIO {name} {value:.3}");
}

fn main() {
    let skewed = std::env::args().nth(1).is_some_and(|arg| arg == "skewed");
    let records = std::env::var("RECORDS").ok().and_then(|n| n.parse().ok()).unwrap_or(2_000_000_u64);
    let mut dice = Dice(0x1234_5678_9abc_def1_1357_9bdf_0246_8ace);
    let mut index = HeadedIndex::<Nothing>::default();
    let before = resident_mib();
    let began = Instant::now();
    for n in 1..=records {
        if let Some(extent) = Extent::new(dice.block(skewed) * BLOCK_SECTORS, BLOCK_SECTORS) {
            index.insert(VOLUME, extent, Position::new(n), Content::Data);
        }
    }
    say("head_minserts_per_s", records as f64 / began.elapsed().as_secs_f64() / 1e6);
    let name = if skewed { "resident_mib_skewed" } else { "resident_mib_uniform" };
    say(name, resident_mib() - before);
    say("head_heap_mib", index.heap_bytes() as f64 / f64::from(1 << 20));

    let lookups = 4_000_000;
    let began = Instant::now();
    let mut known = 0_u64;
    for _ in 0..lookups {
        let sector = Sector::new(dice.block(skewed) * BLOCK_SECTORS).unwrap_or_default();
        known += u64::from(matches!(black_box(index.newest(VOLUME, sector)), Some((_, Home::Record(_)))));
    }
    say("head_mlookups_per_s", f64::from(lookups) / began.elapsed().as_secs_f64() / 1e6);
    assert!(known > 0, "something was found");

    let mut punches = Vec::new();
    if let Some(all) = Extent::new(0, BLOCKS * BLOCK_SECTORS) {
        let began = Instant::now();
        index.insert(VOLUME, all, Position::new(records + 1), Content::Hole);
        punches.push(began.elapsed().as_secs_f64() * 1e3);
    }
    say("punch_1tib_ms", punches.iter().sum());
}
