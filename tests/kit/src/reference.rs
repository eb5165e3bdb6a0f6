//! The reference: a group whose volumes are remembered whole at every position.
//!
//! A sector's content is a number; what bytes stand for it is decided in one place. Nothing clever: each record makes
//! a copy of everything.

use record::geometry::Extent;
use record::ids::Incarnation;
use record::position::Position;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of a sector.
const SECTOR: usize = 512;

/// What a sector holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cell {
    /// As the volume joined.
    Joined(u64),
    /// Written.
    Data(u64),
    /// Zeroed, allocated.
    Zero,
    /// Freed.
    Hole,
}

impl Cell {
    /// The sector's bytes.
    pub fn bytes(self) -> [u8; SECTOR] {
        match self {
            Self::Joined(token) | Self::Data(token) => fill(token),
            Self::Zero | Self::Hole => [0; SECTOR],
        }
    }
}

/// The bytes that stand for a number; 0 for zeros.
pub fn fill(token: u64) -> [u8; SECTOR] {
    let mut out = [0; SECTOR];
    if token != 0 {
        let mut rng = crate::rng::Rng::new(token);
        for word in out.chunks_exact_mut(8) {
            word.copy_from_slice(&rng.number().to_le_bytes());
        }
    }
    out
}

/// The bytes of an extent whose sectors hold `token`, `token + 1` and so on.
pub fn data(token: u64, extent: Extent) -> Vec<u8> {
    (0..extent.count().get()).flat_map(|i| fill(token + i)).collect()
}

type Volumes = BTreeMap<Incarnation, Arc<Vec<Cell>>>;

/// Everything at every position.
#[derive(Clone, Debug)]
pub struct Reference {
    /// By position, from the origin.
    images: Vec<Volumes>,
    joined: BTreeMap<Incarnation, Position>,
}

impl Default for Reference {
    fn default() -> Self {
        Self { images: vec![Volumes::new()], joined: BTreeMap::new() }
    }
}

impl Reference {
    /// The newest position.
    pub fn head(&self) -> Position {
        Position::new(self.images.len() as u64 - 1)
    }

    /// Forgets everything behind a position: a crash took it.
    pub fn cut(&mut self, head: Position) {
        self.images.truncate(usize::try_from(head.get()).unwrap_or(0) + 1);
        self.joined.retain(|_, at| *at <= head);
    }

    /// A volume is going to join with this content.
    pub fn prepare(&mut self, volume: Incarnation, cells: Vec<Cell>) {
        if let Some(now) = self.images.last_mut() {
            now.insert(volume, Arc::new(cells));
        }
    }

    /// The next record changes nothing.
    pub fn same(&mut self) {
        let now = self.now();
        self.images.push(now);
    }

    /// The next record is a volume's JOINED.
    pub fn joined(&mut self, volume: Incarnation) {
        self.same();
        self.joined.insert(volume, self.head());
    }

    /// The next record sets each sector of an extent.
    pub fn set(&mut self, volume: Incarnation, extent: Extent, cell: impl Fn(u64) -> Cell) {
        let mut now = self.now();
        if let Some(cells) = now.get_mut(&volume) {
            let cells = Arc::make_mut(cells);
            for (i, sector) in (extent.start().index()..extent.end()).enumerate() {
                cells[usize::try_from(sector).unwrap_or(usize::MAX)] = cell(i as u64);
            }
        }
        self.images.push(now);
    }

    /// The next record rolls back: volumes that had joined by then are as they were.
    pub fn rollback(&mut self, target: Position) {
        let mut now = self.now();
        for (volume, cells) in self.at(target) {
            if self.joined.get(volume).is_some_and(|joined| *joined <= target) {
                now.insert(*volume, cells.clone());
            }
        }
        self.images.push(now);
    }

    fn now(&self) -> Volumes {
        self.images.last().cloned().unwrap_or_default()
    }

    fn at(&self, position: Position) -> &Volumes {
        &self.images[usize::try_from(position.get()).unwrap_or(usize::MAX)]
    }

    /// A volume's sectors at a position.
    pub fn cells(&self, volume: Incarnation, position: Position) -> &[Cell] {
        self.at(position).get(&volume).map_or(&[], |cells| cells)
    }

    /// A volume's bytes at a position.
    pub fn bytes(&self, volume: Incarnation, position: Position) -> Vec<u8> {
        self.cells(volume, position).iter().flat_map(|cell| cell.bytes()).collect()
    }
}
