//! The fuzz targets on bytes near the corpus, a bounded number of rounds at every `cargo test`.
//!
//! Each round takes an input of the target's corpus (`fuzz/corpus`), damages it a few times as disks, networks and
//! fuzzers do, and hands it to the target. Rounds depend on the seed only. `RECORD_FUZZ_ROUNDS` sets their number,
//! `RECORD_FUZZ_SEED` the seed; a failure prints both numbers that replay its one round.

#[path = "../fuzz/targets.rs"]
mod targets;

mod samples;

use std::path::{Path, PathBuf};

/// Rounds of each target unless told otherwise: about a second in all.
const ROUNDS: u64 = 50_000;
/// The seed unless told otherwise.
const SEED: u64 = 20_261_122;

/// `SplitMix64` (Steele, Lea, Flood 2014): small, seedable, good enough to choose where to damage.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `0..n`, or 0 where there is none.
    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.roll() % (n as u64).max(1)).expect("below a usize")
    }
}

/// Numbers at which length checks go wrong.
const EDGES: [u64; 14] = [
    0,
    1,
    127,
    128,
    255,
    256,
    4095,
    4096,
    65_536,
    4 << 20,
    i32::MAX as u64,
    u32::MAX as u64,
    i64::MAX as u64,
    u64::MAX,
];

fn damage(dice: &mut Dice, bytes: &mut Vec<u8>, other: &[u8]) {
    // Fields lie at the front; half of the damage is done there.
    let reach = if dice.below(2) == 0 { bytes.len().min(512) } else { bytes.len() };
    let at = dice.below(reach);
    match dice.below(9) {
        0 | 1 if !bytes.is_empty() => bytes[at] ^= 1 << dice.below(8),
        2 if !bytes.is_empty() => bytes[at] = dice.roll().to_le_bytes()[0],
        3 | 4 => {
            let value = EDGES[dice.below(EDGES.len())].to_le_bytes();
            let width = [1, 2, 4, 8][dice.below(4)].min(bytes.len() - at);
            bytes[at..at + width].copy_from_slice(&value[..width]);
        }
        5 => bytes.truncate(at),
        6 => {
            let end = at + dice.below((bytes.len() - at).min(64) + 1);
            bytes.drain(at..end);
        }
        7 => {
            let from = dice.below(other.len());
            let part = &other[from..from + dice.below((other.len() - from).min(64) + 1)];
            bytes.splice(at..at, part.iter().copied());
        }
        _ => {
            let from = dice.below(other.len());
            let len = dice.below((other.len() - from).min(bytes.len() - at) + 1);
            bytes[at..at + len].copy_from_slice(&other[from..from + len]);
        }
    }
}

fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name)
}

fn inputs(name: &str) -> Vec<Vec<u8>> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(corpus(name))
        .unwrap_or_else(|why| panic!("the corpus of {name}: {why}"))
        .map(|entry| entry.expect("an entry of the corpus").path())
        .collect();
    // The order of a folder is not the same everywhere; rounds must be.
    files.sort();
    let inputs: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).expect("read the corpus")).collect();
    assert!(!inputs.is_empty(), "the corpus of {name} is empty");
    inputs
}

fn setting(name: &str, otherwise: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => otherwise,
    }
}

/// Says how to replay the round that panicked.
struct Replay<'a> {
    target: &'a str,
    seed: u64,
}

impl Drop for Replay<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "replay: RECORD_FUZZ_ROUNDS=1 RECORD_FUZZ_SEED={} cargo test -p record --test fuzz {}",
                self.seed, self.target
            );
        }
    }
}

fn run(name: &str) {
    let (_, target) = targets::ALL.into_iter().find(|(n, _)| *n == name).expect("a target of that name");
    let inputs = inputs(name);
    for input in &inputs {
        target(input);
    }
    let (seed, rounds) = (setting("RECORD_FUZZ_SEED", SEED), setting("RECORD_FUZZ_ROUNDS", ROUNDS));
    for seed in (seed..).take(usize::try_from(rounds).expect("a number of rounds")) {
        let replay = Replay { target: name, seed };
        let mut dice = Dice(seed);
        let mut bytes = inputs[dice.below(inputs.len())].clone();
        let other = &inputs[dice.below(inputs.len())];
        for _ in 0..=dice.below(4) {
            damage(&mut dice, &mut bytes, other);
        }
        target(&bytes);
        drop(replay);
    }
}

#[test]
fn body() {
    run("body");
}

#[test]
fn header() {
    run("header");
}

#[test]
fn conversation() {
    run("conversation");
}

#[test]
fn notes() {
    run("notes");
}

/// With `UNDISK_FREEZE=write` the corpus is written anew from the samples.
#[test]
fn the_corpus_holds_every_sample() {
    use record::build::BodyBuilder;
    use record::conversation::frame::{FRAME_HEAD_BYTES, Message};
    use record::position::{Session, StreamSeq};

    let freeze = std::env::var_os("UNDISK_FREEZE").is_some_and(|mode| mode == "write");
    let small = |records: &[usize]| {
        let all = samples::records();
        let mut builder = BodyBuilder::new(samples::JOURNAL, Session::new(5), StreamSeq::new(100));
        assert!(records.iter().all(|i| builder.push(all[*i].0, &all[*i].1)));
        builder.finish().header
    };
    let mut files = vec![
        ("body/every-shape".to_owned(), samples::body().header),
        ("body/empty".to_owned(), small(&[])),
        ("body/writes".to_owned(), small(&[0, 1, 3])),
        ("body/punches".to_owned(), small(&[4, 5, 4])),
        ("body/notes".to_owned(), small(&[17, 18, 6])),
        ("header/sample".to_owned(), samples::header().encode().0.to_vec()),
    ];
    let body = |frame: Vec<u8>| frame[FRAME_HEAD_BYTES..].to_vec();
    for (i, message) in samples::to_appliance().iter().enumerate() {
        files.push((format!("conversation/to-appliance-{i:02}"), body(message.encode())));
    }
    for (i, message) in samples::to_splitter().iter().enumerate() {
        files.push((format!("conversation/to-splitter-{i:02}"), body(message.encode())));
    }
    files.extend(samples::notes().into_iter().map(|(name, _, note)| (format!("notes/{name}"), note)));
    for (name, bytes) in files {
        let path = corpus(&name);
        if freeze {
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("make the folder");
            std::fs::write(&path, &bytes).expect("write the corpus");
        }
        assert!(std::fs::read(&path).is_ok_and(|there| there == bytes), "{} is not the sample", path.display());
    }
}
