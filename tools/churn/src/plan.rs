//! What a lane does next. Pure: a seed in, operations out; the same ones for the same seed, whatever the device does.

use crate::log::Kind;
use crate::rng::Rng;
use anyhow::{Context as _, Result, bail};
use std::str::FromStr;

/// Sectors in the block that most operations are aligned to.
const BLOCK: u64 = 8;

/// How often each kind is chosen, against the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix([u32; 6]);

impl Default for Mix {
    fn default() -> Self {
        let mut mix = Self([0; 6]);
        for (kind, weight) in [
            (Kind::Write, 56),
            (Kind::Fua, 4),
            (Kind::Discard, 18),
            (Kind::Zero, 8),
            (Kind::Punch, 8),
            (Kind::Flush, 6),
        ] {
            mix.set(kind, weight);
        }
        mix
    }
}

impl Mix {
    /// Gives `kind` this weight; 0 leaves it out.
    pub fn set(&mut self, kind: Kind, weight: u32) {
        for (place, of) in self.0.iter_mut().zip(Kind::ALL) {
            if of == kind {
                *place = weight;
            }
        }
    }

    /// The weight of `kind`.
    pub fn weight(&self, kind: Kind) -> u32 {
        Kind::ALL.into_iter().zip(self.0).find(|(of, _)| *of == kind).map_or(0, |(_, weight)| weight)
    }

    fn choose(&self, rng: &mut Rng) -> Kind {
        let mut ticket = rng.below(self.0.iter().copied().map(u64::from).sum());
        for (kind, weight) in Kind::ALL.into_iter().zip(self.0) {
            match ticket.checked_sub(u64::from(weight)) {
                Some(rest) => ticket = rest,
                None => return kind,
            }
        }
        Kind::Flush
    }
}

impl FromStr for Mix {
    type Err = anyhow::Error;

    /// `write=60,discard=40`: what is not named is left out.
    fn from_str(text: &str) -> Result<Self> {
        let mut mix = Self([0; 6]);
        for part in text.split(',') {
            let (name, weight) = part.split_once('=').with_context(|| format!("{part:?} is not KIND=WEIGHT"))?;
            let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
            let kind = kind.with_context(|| format!("{name:?} is none of write, fua, discard, zero, punch, flush"))?;
            mix.set(kind, weight.parse().with_context(|| format!("{weight:?} is not a weight"))?);
        }
        if mix.0.iter().all(|weight| *weight == 0) {
            bail!("{text:?} leaves nothing to do");
        }
        Ok(mix)
    }
}

/// Where and how large operations are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// First sector of the region.
    pub first: u64,
    /// Sectors of the region.
    pub sectors: u64,
    /// Sectors that every operation starts and ends at a multiple of: the device's logical block.
    pub unit: u64,
    /// The longest write, sectors.
    pub longest_write: u64,
    /// The longest discard or zeroing, sectors.
    pub longest_clear: u64,
    /// All operations go to the first so many blocks of 4096 bytes, each to one of them; `None`: all over the region.
    pub hot_blocks: Option<u64>,
    /// What is done how often.
    pub mix: Mix,
}

/// One operation to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// What to do.
    pub kind: Kind,
    /// First sector.
    pub sector: u64,
    /// Sectors; none for a flush.
    pub sectors: u64,
}

/// The endless plan of one lane.
#[derive(Clone, Debug)]
pub struct Plan {
    rng: Rng,
    shape: Shape,
}

impl Plan {
    /// The plan of `lane` under `seed`.
    pub fn new(seed: u64, lane: u16, shape: Shape) -> Self {
        let mut seeds = Rng::new(seed ^ (u64::from(lane) + 1).wrapping_mul(0xd6e8_feb8_6659_fd93));
        Self { rng: Rng::new(seeds.number()), shape }
    }

    /// The next operation.
    pub fn step(&mut self) -> Step {
        let kind = self.shape.mix.choose(&mut self.rng);
        if kind == Kind::Flush {
            return Step { kind, sector: 0, sectors: 0 };
        }
        if let Some(blocks) = self.shape.hot_blocks {
            let block = self.rng.below(blocks.min(self.shape.sectors / BLOCK));
            return Step { kind, sector: self.shape.first + block * BLOCK, sectors: BLOCK };
        }
        let unit = if self.rng.below(4) == 0 { self.shape.unit } else { self.shape.unit.max(BLOCK) };
        let most = if kind.writes() { self.shape.longest_write } else { self.clear_of_some_size() };
        let units = self.rng.between(1, (most / unit).max(1)).min(self.shape.sectors / unit);
        let room = self.shape.sectors / unit - units;
        // Half of them fall into the first eighth, so that they meet.
        let start = if self.rng.below(2) == 0 { self.rng.between(0, room) } else { self.rng.between(0, room / 8) };
        Step { kind, sector: self.shape.first + start * unit, sectors: units * unit }
    }

    /// Most discards are short, some long, very few as long as may be.
    fn clear_of_some_size(&mut self) -> u64 {
        let longest = self.shape.longest_clear;
        match self.rng.below(64) {
            0 => longest,
            1..6 => longest.min(2048),
            _ => longest.min(64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape {
        first: 1 << 20,
        sectors: 4096,
        unit: 1,
        longest_write: 64,
        longest_clear: 4096,
        hot_blocks: None,
        mix: Mix([56, 4, 18, 8, 8, 6]),
    };

    #[test]
    fn the_same_seed_gives_the_same_plan_and_lanes_differ() {
        let steps = |seed, lane| {
            let mut plan = Plan::new(seed, lane, SHAPE);
            (0..100).map(|_| plan.step()).collect::<Vec<_>>()
        };
        assert_eq!(steps(1, 0), steps(1, 0));
        assert_ne!(steps(1, 0), steps(1, 1));
        assert_ne!(steps(1, 0), steps(2, 0));
    }

    #[test]
    fn every_operation_lies_in_the_region_and_all_kinds_sizes_and_alignments_come() {
        let mut plan = Plan::new(3, 0, SHAPE);
        let steps: Vec<Step> = (0..20_000).map(|_| plan.step()).collect();
        let end = SHAPE.first + SHAPE.sectors;
        let changes = || steps.iter().filter(|step| step.kind != Kind::Flush);
        assert!(
            changes().all(|step| step.sectors > 0 && step.sector >= SHAPE.first && step.sector + step.sectors <= end)
        );
        assert!(changes().filter(|step| step.kind.writes()).all(|step| step.sectors <= SHAPE.longest_write));
        for kind in Kind::ALL {
            assert!(steps.iter().filter(|step| step.kind == kind).count() > 300, "{}", kind.name());
        }
        assert!(changes().any(|step| step.sector % 8 == 3 && step.sectors % 8 == 5));
        assert!(changes().any(|step| step.sectors > 2048) && changes().any(|step| step.sectors == 1));
    }

    #[test]
    fn hot_blocks_are_whole_blocks() {
        let mut plan = Plan::new(3, 0, Shape { hot_blocks: Some(1), ..SHAPE });
        for _ in 0..1000 {
            let step = plan.step();
            assert!(step.kind == Kind::Flush || (step.sector, step.sectors) == (SHAPE.first, 8));
        }
    }

    #[test]
    fn a_mix_leaves_out_what_it_does_not_name() {
        let mix: Mix = "write=3,discard=1".parse().unwrap();
        let mut plan = Plan::new(3, 0, Shape { mix, ..SHAPE });
        assert!((0..1000).all(|_| matches!(plan.step().kind, Kind::Write | Kind::Discard)));
        for wrong in ["", "write", "wrote=1", "write=x", "write=0"] {
            assert!(wrong.parse::<Mix>().is_err(), "{wrong:?}");
        }
    }
}
