//! Goal: an overlay is indistinguishable from a plain copy of the image that is written to.
//! Method: random writes and zeroings, sector-exact, against a `Vec` that takes the same; every seed is printed.

use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

struct Pattern(Vec<u8>);

impl Below for Pattern {
    type Error = ();

    fn read(&self, extent: Extent, out: &mut [u8]) -> Result<(), ()> {
        let at = usize::try_from(extent.start().byte_offset()).expect("small");
        out.copy_from_slice(&self.0[at..at + out.len()]);
        Ok(())
    }
}

struct Damaged;

impl Below for Damaged {
    type Error = &'static str;

    fn read(&self, _: Extent, _: &mut [u8]) -> Result<(), &'static str> {
        Err("rot")
    }
}

/// xorshift64*, so that a seed is a history.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % below
    }
}

fn pattern(sectors: u64) -> Pattern {
    Pattern((0..sectors * SECTOR_BYTES).map(|i| u8::try_from((i / 512 + i) % 251).expect("below 251") | 1).collect())
}

/// Room until somebody says that there is none.
#[derive(Clone, Debug, Default)]
struct Switch(Arc<AtomicBool>);

impl Room for Switch {
    fn is_left(&self, _: &File) -> bool {
        !self.0.load(Ordering::Relaxed)
    }
}

fn overlay(bytes: u64) -> Overlay {
    Overlay::new(tempfile::tempfile().expect("scratch"), bytes, Box::new(Switch::default()))
}

fn ext(start: u64, count: u64) -> Extent {
    Extent::new(start, count).expect("extent")
}

fn look<B: Below>(overlay: &Overlay, below: &B, extent: Extent) -> Result<Vec<u8>, ReadError<B::Error>> {
    let mut out = vec![0xAA; usize::try_from(extent.bytes()).expect("small")];
    overlay.read(below, extent, &mut out)?;
    Ok(out)
}

#[test]
fn random_histories_read_like_a_plain_copy() {
    const SECTORS: u64 = 700;
    for seed in 1..=60u64 {
        println!("seed {seed}");
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let below = pattern(SECTORS);
        let mut truth = below.0.clone();
        let mut overlay = overlay(1 << 20);
        for step in 0..300 {
            let start = dice.roll(SECTORS);
            let longest = if dice.roll(4) == 0 { 400 } else { 20 };
            let count = 1 + dice.roll((SECTORS - start).min(longest));
            let extent = ext(start, count);
            let range = sectors_bytes(start)..sectors_bytes(extent.end());
            match dice.roll(3) {
                0 => {
                    let fill = u8::try_from(dice.roll(255)).expect("a byte");
                    let data: Vec<u8> = range.clone().map(|i| fill ^ u8::try_from(i % 256).expect("a byte")).collect();
                    overlay.write(extent, &data).expect("write");
                    truth[range].copy_from_slice(&data);
                }
                1 => {
                    overlay.zero(extent).expect("zero");
                    truth[range].fill(0);
                }
                _ => {
                    let seen = look(&overlay, &below, extent).expect("read");
                    assert!(seen == truth[range], "step {step}: {extent}");
                }
            }
        }
        assert!(look(&overlay, &below, ext(0, SECTORS)).expect("read") == truth, "in the end");
        let mut last = None;
        for (&first, &end) in &overlay.zeros {
            assert!(first < end && last.is_none_or(|l| l < first), "runs stay apart");
            assert!(overlay.blocks.range(first..end).next().is_none(), "a zero block owns no slot");
            last = Some(end);
        }
    }
}

#[test]
fn a_full_overlay_refuses_the_whole_write_and_keeps_what_it_has() {
    let below = pattern(800);
    let mut overlay = overlay(8 * 4096);
    overlay.write(ext(0, 64), &vec![7; 64 * 512]).expect("eight blocks fit");
    assert!(matches!(overlay.write(ext(64, 1), &[8; 512]), Err(OverlayError::Full)));
    assert!(matches!(overlay.zero(ext(81, 2)), Err(OverlayError::Full)), "a partial block needs room");
    overlay.write(ext(3, 2), &[9; 1024]).expect("rewriting needs no room");
    assert_eq!(look(&overlay, &below, ext(64, 1)).expect("read"), below.0[64 * 512..65 * 512]);
    overlay.zero(ext(0, 16)).expect("whole blocks need no room");
    assert_eq!(overlay.used_bytes(), 6 * 4096);
    overlay.write(ext(64, 1), &[8; 512]).expect("freed room is used again");
    assert_eq!(look(&overlay, &below, ext(64, 1)).expect("read"), vec![8; 512]);
}

#[test]
fn damage_below_spoils_only_sectors_that_were_never_written() {
    let mut overlay = overlay(1 << 20);
    overlay.write(ext(1, 2), &[5; 1024]).expect("write");
    overlay.zero(ext(3, 1)).expect("zero");
    assert_eq!(look(&overlay, &Damaged, ext(1, 2)).map_err(|_| ()).expect("own sectors"), vec![5; 1024]);
    assert_eq!(look(&overlay, &Damaged, ext(3, 1)).map_err(|_| ()).expect("zeroed"), vec![0; 512]);
    assert!(matches!(look(&overlay, &Damaged, ext(0, 2)), Err(ReadError::Below("rot"))));
    assert!(matches!(look(&overlay, &Damaged, ext(4, 1)), Err(ReadError::Below("rot"))));
}

#[test]
fn a_discard_of_a_huge_volume_takes_no_room() {
    let mut overlay = overlay(1 << 20);
    let whole = ext(0, 1 << 40);
    overlay.zero(whole).expect("zero");
    overlay.write(ext(1 << 39, 8), &[1; 4096]).expect("write");
    assert_eq!(overlay.used_bytes(), 4096);
    assert_eq!(look(&overlay, &Damaged, ext((1 << 39) - 1, 1)).map_err(|_| ()).expect("zero"), vec![0; 512]);
    overlay.zero(whole).expect("zero again");
    assert_eq!((overlay.used_bytes(), overlay.zeros.len()), (0, 1));
}

#[test]
fn an_overlay_is_full_when_others_have_taken_the_room() {
    let full = Switch::default();
    let mut overlay = Overlay::new(tempfile::tempfile().expect("scratch"), 64 << 20, Box::new(full.clone()));
    let below = pattern(8);
    let mib = vec![7; 1 << 20];
    let at = |i: u64| ext(i * 2048, 2048);
    overlay.write(at(0), &mib).expect("room");
    full.0.store(true, Ordering::Relaxed);
    assert!(matches!(overlay.write(at(1), &mib), Err(OverlayError::Full)), "looked at once in a MiB");
    assert!(matches!(overlay.write(ext(2048, 1), &mib[..512]), Err(OverlayError::Full)), "and every time from then on");
    overlay.write(at(0), &vec![8; 1 << 20]).expect("what it holds already takes no more room");
    overlay.zero(at(0)).expect("nor do zeros");
    full.0.store(false, Ordering::Relaxed);
    overlay.write(at(1), &mib).expect("room again");
    assert!(look(&overlay, &below, at(0)).expect("zeros").iter().all(|b| *b == 0));
    assert!(look(&overlay, &below, at(1)).expect("data").iter().all(|b| *b == 7));
}
