//! The index's figures on this machine, one line `RATIO name value` each.
//!
//! Goal: what `cargo xtask bench engine` reports of the index. Method: records without payload over a volume of 1 TiB,
//! uniform or 80/20 (80 % of them to a fifth of the volume), RECORDS of them (2,000,000 unless told otherwise), in a
//! process of its own for each distribution so that resident memory is what it says. Runs go to FOLDER (the temporary one
//! unless told otherwise), and are removed.
//!
//! `index_figures uniform|skewed`

use journal::index::{Content, HeadedIndex, Home, Index, Path, RunIndex};
use journal::place::{Place, SegmentNumber};
use nix::sys::resource::{UsageWho, getrusage};
use record::geometry::{BLOCK_SECTORS, Extent, Sector};
use record::ids::{Incarnation, JournalId};
use record::position::Position;
use std::hint::black_box;
use std::time::Instant;

const VOLUME: Incarnation = Incarnation::new(1);
const BLOCKS: u64 = 1 << 28;
const CHUNK_RECORDS: u64 = 256;
const SEGMENT_RECORDS: u64 = 64 * CHUNK_RECORDS;

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

/// Seconds of processor time of this process: what one core does, however busy the machine is.
fn cpu_seconds() -> f64 {
    getrusage(UsageWho::RUSAGE_SELF).map_or(0.0, |usage| {
        let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
        seconds(usage.user_time()) + seconds(usage.system_time())
    })
}

fn say(name: &str, value: f64) {
    println!("RATIO {name} {value:.3}");
}

fn main() {
    let skewed = std::env::args().nth(1).is_some_and(|arg| arg == "skewed");
    let records = std::env::var("RECORDS").ok().and_then(|n| n.parse().ok()).unwrap_or(2_000_000_u64);
    let mut dice = Dice(0x1234_5678_9abc_def1_1357_9bdf_0246_8ace);
    let folder = std::env::var("FOLDER").map_or_else(|_| std::env::temp_dir(), Into::into);
    let folder = folder.join(format!("index-figures-{}", std::process::id()));
    if let Err(error) = std::fs::create_dir_all(&folder) {
        eprintln!("{}: {error}", folder.display());
        return;
    }
    let mut index = HeadedIndex::of(RunIndex::in_directory(&folder, JournalId::from_bytes(*b"index of figures")));
    let before = resident_mib();
    let mut chunk: Vec<Extent> = Vec::new();
    let began = cpu_seconds();
    for n in 1..=records {
        // Chunks of 1 MiB, segments of 64 MiB: the payload that there would be.
        if n % CHUNK_RECORDS == 1 {
            let (segment, number) = (
                u32::try_from(n / SEGMENT_RECORDS + 1).unwrap_or(1),
                n / CHUNK_RECORDS % (SEGMENT_RECORDS / CHUNK_RECORDS),
            );
            let place = Place { segment: SegmentNumber::new(segment), offset: number << 20 };
            index.behind_mut().chunk(place, Position::new(n), 0);
            chunk.clear();
            let count = CHUNK_RECORDS.min(records - n + 1);
            chunk.extend((0..count).filter_map(|_| Extent::new(dice.block(skewed) * BLOCK_SECTORS, BLOCK_SECTORS)));
            index.expect(&chunk.iter().map(|extent| (VOLUME, extent.start())));
        }
        index.insert(VOLUME, chunk[((n - 1) % CHUNK_RECORDS) as usize], Position::new(n), Content::Data);
        if n % CHUNK_RECORDS == 0 {
            index.behind_mut().tend();
        }
    }
    say("index_minserts_per_s", records as f64 / (cpu_seconds() - began) / 1e6);
    let name = if skewed { "resident_mib_skewed" } else { "resident_mib_uniform" };
    say(name, resident_mib() - before);
    say("head_heap_mib", index.heap_bytes() as f64 / f64::from(1 << 20));

    let lookups = 4_000_000;
    let began = cpu_seconds();
    let mut known = 0_u64;
    for _ in 0..lookups {
        let sector = Sector::new(dice.block(skewed) * BLOCK_SECTORS).unwrap_or_default();
        known += u64::from(matches!(black_box(index.newest(VOLUME, sector)), Some((_, Home::Record(_)))));
    }
    say("head_mlookups_per_s", f64::from(lookups) / (cpu_seconds() - began) / 1e6);
    assert!(known > 0, "something was found");

    // An image at a random position, up to and with the answer for the first 4 KiB that somebody reads.
    let mut opened: Vec<f64> = Vec::new();
    for _ in 0..201 {
        let path = Path::straight(Position::new(1 + dice.below(records)));
        if let Some(extent) = Extent::new(dice.block(skewed) * BLOCK_SECTORS, BLOCK_SECTORS) {
            let began = Instant::now();
            black_box(index.behind().ask(VOLUME, &path, extent).finish());
            opened.push(began.elapsed().as_secs_f64() * 1e3);
        }
    }
    opened.sort_by(f64::total_cmp);
    say("open_ms_p50", opened[opened.len() / 2]);
    say("open_ms_p95", opened[opened.len() * 95 / 100]);

    if let Some(all) = Extent::new(0, BLOCKS * BLOCK_SECTORS) {
        let began = Instant::now();
        index.insert(VOLUME, all, Position::new(records + 1), Content::Hole);
        say("punch_1tib_ms", began.elapsed().as_secs_f64() * 1e3);
    }
    let bytes = std::fs::read_dir(folder.join("runs")).into_iter().flatten().flatten();
    let bytes: u64 = bytes.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum();
    say("index_bytes_per_record", bytes as f64 / records as f64);
    let _ = std::fs::remove_dir_all(&folder);
}
