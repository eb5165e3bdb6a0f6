//! A group under test: a journal on a simulated disk, a splitter's stream, and the reference beside them.
#![allow(dead_code, reason = "every test file uses another part of it")]

pub mod fixture;

use journal::device::Aligned;
use journal::{
    BaseDevice, Create, Image, JoinRequest, Journal, Member, Opened, PieceKind, RecoveryReport, RestoreContent,
};
use kit::reference::{Cell, data};
use kit::{DiskBase, Laying, MemBase, Reference, Rng, SimDisk};
use record::build::BodyBytes;
use record::conversation::Continuation;
use record::geometry::{Extent, LogicalBlock, SectorCount};
use record::ids::{GroupId, Incarnation, JournalId, SplitterId, VolumeId};
use record::member::RollbackNote;
use record::op::Op;
use record::position::{Label, Position, Session, SplitterIncarnation, StreamSeq};
use std::collections::BTreeMap;
use std::sync::Arc;

pub const ID: JournalId = JournalId::from_bytes(*b"journal of tests");

/// The splitter of all volumes, but where a test has several.
pub const SPLITTER: SplitterId = SplitterId::from_bytes(*b"splitter of test");

/// One volume and its replica.
#[derive(Clone, Debug)]
pub struct Volume {
    pub number: Incarnation,
    pub sectors: u64,
    pub base: Arc<dyn BaseDevice>,
    /// Its file, if the replica lies on the simulated disk.
    pub file: Option<String>,
    pub left: Option<Position>,
}

/// What a record does to the reference.
#[derive(Clone, Debug)]
pub enum Effect {
    None,
    Set(Incarnation, Extent, Fill),
}

#[derive(Clone, Copy, Debug)]
pub enum Fill {
    Data(u64),
    Zero,
    Hole,
}

/// A sealed chunk that the journal does not have yet, with what it does.
#[derive(Clone, Debug)]
pub struct Sealed {
    pub body: BodyBytes,
    pub effects: Vec<Effect>,
    pub next: StreamSeq,
}

pub struct Group {
    pub disk: SimDisk,
    pub journal: Journal,
    pub reference: Reference,
    pub laying: Laying,
    pub session: Session,
    pub splitter: SplitterIncarnation,
    pub volumes: Vec<Volume>,
    pub tokens: u64,
    pub laid: Vec<Effect>,
    pub outbox: Vec<Sealed>,
}

pub fn at(n: u64) -> Position {
    Position::new(n)
}

pub fn extent(start: u64, count: u64) -> Extent {
    Extent::new(start, count).expect("a test's extent")
}

pub fn create(disk: &SimDisk) {
    let create = Create {
        journal: ID,
        group: GroupId::from_bytes(*b"group of tests.."),
        group_name: "g".into(),
        now: Label::from_nanos(1_000_000),
        segment_bytes: Create::SEGMENT_BYTES_MIN,
    };
    Journal::create_on(disk, &create).expect("create");
}

pub fn join_request(n: u8, name: &str, sectors: u64) -> JoinRequest {
    JoinRequest {
        volume: VolumeId::from_bytes([n; 16]),
        name: name.into(),
        size: SectorCount::new(sectors).expect("a size"),
        block: LogicalBlock::SECTOR,
        splitter: SPLITTER,
    }
}

pub fn lost() -> Continuation {
    Continuation::Lost { reason: "first".into() }
}

/// A random extent of a volume, at odd sectors, most of them short.
pub fn some_extent(rng: &mut Rng, volume: &Volume) -> Extent {
    let longest = match rng.below(4) {
        0 => volume.sectors,
        1 => 24,
        _ => 9,
    };
    let count = 1 + rng.below(longest.min(volume.sectors));
    extent(rng.below(volume.sectors - count + 1), count)
}

/// The splitter comes back after the journal was opened again: the same session goes on.
pub fn resume(group: &mut Group) {
    let same = Continuation::Same { session: group.session, laid: group.laying.next(), released: StreamSeq::FIRST };
    assert!(group.open_session(&same), "the history goes on without a gap");
}

/// Another life of the journal finds what is on the disk, and the splitter comes back.
pub fn restart(group: Group, clean: bool) -> Group {
    let Group { disk, journal, reference, laying, session, splitter, volumes, tokens, outbox, .. } = group;
    if clean {
        journal.close().expect("close");
    }
    drop(journal);
    let disk = if clean { disk } else { disk.killed() };
    let (mut group, report) = Group::open(disk, volumes).expect("open again");
    assert_eq!(report.clean, clean);
    assert!(report.damage.is_empty() && report.alarms.is_empty(), "{report:?}");
    (group.reference, group.laying, group.session, group.splitter) = (reference, laying, session, splitter);
    (group.tokens, group.outbox) = (tokens, outbox);
    group.catch_up();
    resume(&mut group);
    group
}

impl Volume {
    /// Its replica, when this is the disk.
    pub fn base_on(&self, disk: &SimDisk) -> Result<Arc<dyn BaseDevice>, journal::JournalError> {
        let Some(name) = &self.file else { return Ok(self.base.clone()) };
        let io = |source| journal::JournalError::Io { journal: "sim".into(), doing: "open a replica".into(), source };
        Ok(Arc::new(DiskBase::on(disk, name, self.sectors).map_err(io)?))
    }
}

impl Group {
    /// The same, with replicas on the simulated disk.
    pub fn with_replicas_on_disk(sizes: &[u64]) -> Self {
        let mut group = Self::new(&[]);
        for (n, sectors) in sizes.iter().enumerate() {
            group.join_with(*sectors, Some(format!("replica-{n}")));
        }
        group
    }

    /// A new journal with volumes of these sizes, joined, and a session.
    pub fn new(sizes: &[u64]) -> Self {
        let disk = SimDisk::new();
        create(&disk);
        let mut group = Self::open(disk, Vec::new()).expect("open").0;
        group.open_session(&lost());
        for sectors in sizes {
            group.join(*sectors);
        }
        group
    }

    /// Opens what is on a disk; the reference is empty and must be put in.
    pub fn open(disk: SimDisk, volumes: Vec<Volume>) -> Result<(Self, RecoveryReport), journal::JournalError> {
        let Opened { journal, report } = Journal::open_on(disk.shared())?;
        let known: Vec<Incarnation> = journal.members().iter().map(|m| m.incarnation).collect();
        for volume in volumes.iter().filter(|v| known.contains(&v.number)) {
            journal.attach_base_device(volume.number, volume.base_on(&disk)?)?;
        }
        let label = journal.timeline().head.label;
        let group = Self {
            disk,
            journal,
            reference: Reference::default(),
            laying: Laying::new(ID, Session::new(0), StreamSeq::FIRST, label),
            session: Session::new(0),
            splitter: SplitterIncarnation::FIRST,
            volumes,
            tokens: 1,
            laid: Vec::new(),
            outbox: Vec::new(),
        };
        Ok((group, report))
    }

    /// The journal's own records changed nothing that the reference does not know.
    pub fn catch_up(&mut self) {
        while self.reference.head() < self.journal.timeline().head.position {
            self.reference.same();
        }
    }

    pub fn head(&self) -> Position {
        self.journal.timeline().head.position
    }

    pub fn open_session(&mut self, continuation: &Continuation) -> bool {
        let granted = self.journal.grant(SPLITTER, self.splitter, continuation).expect("grant");
        if granted.fresh {
            self.laying = Laying::new(ID, granted.session, granted.expected, granted.label);
            self.outbox.clear();
            self.laid.clear();
        }
        self.session = granted.session;
        self.catch_up();
        granted.consistent
    }

    /// A volume joins; its replica lies in memory.
    pub fn join(&mut self, sectors: u64) -> Incarnation {
        self.join_with(sectors, None)
    }

    /// A volume joins; its replica is this file of the simulated disk.
    pub fn join_with(&mut self, sectors: u64, file: Option<String>) -> Incarnation {
        let n = u8::try_from(self.volumes.len() + 1).expect("few volumes");
        let number = self.journal.join(&join_request(n, &format!("v{n}"), sectors), self.laying.label()).expect("join");
        let base: Arc<dyn BaseDevice> = match &file {
            None => Arc::new(MemBase::new(sectors)),
            Some(name) => Arc::new(DiskBase::on(&self.disk, name, sectors).expect("a replica")),
        };
        self.journal.attach_base_device(number, base.clone()).expect("attach");
        self.catch_up();
        // It joins with something in its first half.
        let token = self.token(sectors);
        let half = extent(0, sectors.div_ceil(2));
        self.journal.base_reset(number).expect("reset");
        self.journal.base_write(number, half, &data(token, half)).expect("base write");
        let cell = |i| if i < half.count().get() { Cell::Joined(token + i) } else { Cell::Joined(0) };
        self.reference.prepare(number, (0..sectors).map(cell).collect());
        self.journal.joined(number, self.laying.label()).expect("joined");
        self.reference.joined(number);
        self.volumes.push(Volume { number, sectors, base, file, left: None });
        number
    }

    pub fn token(&mut self, count: u64) -> u64 {
        let token = self.tokens;
        self.tokens += count;
        token
    }

    // ---- laying

    pub fn write(&mut self, volume: Incarnation, extent: Extent) {
        let token = self.token(extent.count().get());
        self.laying.write(volume, extent, data(token, extent));
        self.laid.push(Effect::Set(volume, extent, Fill::Data(token)));
    }

    pub fn punch(&mut self, volume: Incarnation, extent: Extent) {
        self.laying.change(Op::Punch, volume, extent);
        self.laid.push(Effect::Set(volume, extent, Fill::Hole));
    }

    pub fn zero(&mut self, volume: Incarnation, extent: Extent) {
        self.laying.change(Op::Zero, volume, extent);
        self.laid.push(Effect::Set(volume, extent, Fill::Zero));
    }

    pub fn mark(&mut self, op: Op) {
        self.laying.mark(op);
        self.laid.push(Effect::None);
    }

    pub fn indeterminate(&mut self, volume: Incarnation, extent: Extent) {
        self.laying.change(Op::Indeterminate, volume, extent);
        self.laid.push(Effect::None);
    }

    pub fn bookmark(&mut self, name: &str) {
        self.laying.bookmark(name);
        self.laid.push(Effect::None);
    }

    pub fn seal(&mut self) {
        if let Some(body) = self.laying.seal() {
            let effects = std::mem::take(&mut self.laid);
            self.outbox.push(Sealed { body, effects, next: self.laying.next() });
        }
    }

    /// Sends all sealed chunks; `true` when the journal took them.
    pub fn send(&mut self) -> bool {
        self.seal();
        let chunks: Vec<(&[u8], &[u8])> =
            self.outbox.iter().map(|s| (s.body.header.as_slice(), s.body.payload.as_slice())).collect();
        if chunks.is_empty() {
            return true;
        }
        let outcome = self.journal.append_many(self.session, &chunks);
        // What it took is durable, whatever it says of the rest.
        let durable = self.journal.watermarks(self.session).expect("a session").durable;
        let taken = self.outbox.iter().take_while(|s| s.next <= durable).count();
        for sealed in self.outbox.drain(..taken).collect::<Vec<_>>() {
            self.apply(&sealed.effects);
        }
        outcome.is_ok()
    }

    pub fn apply(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::None => self.reference.same(),
                Effect::Set(volume, extent, fill) => self.reference.set(*volume, *extent, |i| match fill {
                    Fill::Data(token) => Cell::Data(token + i),
                    Fill::Zero => Cell::Zero,
                    Fill::Hole => Cell::Hole,
                }),
            }
        }
    }

    pub fn rollback(&mut self, target: Position) {
        let changed = self.journal.changed_set(target).expect("a target that can be offered");
        let id = self.journal.next_rollback_id();
        self.journal.store_restore_map(id, &changed).expect("store map");
        self.journal.rollback(RollbackNote { target, id }, self.laying.label()).expect("rollback");
        self.reference.rollback(target);
    }

    // ---- checking

    /// Every image from `from` on that is offered is what the reference remembers; the others are refused. Answers
    /// with how many were compared.
    pub fn check_all(&self, from: Position) -> u64 {
        let mut compared = 0;
        for n in from.get()..=self.head().get() {
            if let Ok(image) = self.journal.image(at(n)) {
                self.check_image(&image);
                compared += 1;
            }
        }
        compared
    }

    pub fn check(&self, position: Position) {
        self.check_image(&self.journal.image(position).expect("a position that can be offered"));
    }

    pub fn check_image(&self, image: &Image) {
        let position = image.at().position;
        for member in image.members() {
            let whole = extent(0, member.size.get());
            // A buffer into which blocks are read straight, and at every other position one where they are not.
            let mut bytes = Aligned::copy_of(&vec![0xaa; usize::try_from(whole.bytes()).expect("small") + 1]);
            let from = usize::from(position.get().is_multiple_of(2));
            let (from, to) = (from, bytes.len() - 1 + from);
            image.read(member.incarnation, whole, &mut bytes[from..to]).expect("a sound image");
            let expected = self.reference.bytes(member.incarnation, position);
            assert!(bytes[from..to] == expected, "volume {} differs at seq:{position}", member.incarnation);
            self.check_kinds(image, member);
        }
        let shown = self.volumes.iter().filter(|v| self.is_shown(v, position)).count();
        assert_eq!(image.members().len(), shown, "members at seq:{position}");
    }

    /// Replicas are the volumes as they were at a position, holes and all.
    pub fn check_replicas(&self, position: Position) {
        for volume in self.volumes.iter().filter(|volume| self.is_shown(volume, position)) {
            let whole = extent(0, volume.sectors);
            let mut bytes = vec![0xaa; usize::try_from(whole.bytes()).expect("small")];
            volume.base_on(&self.disk).expect("a replica").read(whole, &mut bytes).expect("a replica");
            let expected = self.reference.bytes(volume.number, position);
            assert!(bytes == expected, "the replica of volume {} is not seq:{position}", volume.number);
            if volume.file.is_some() {
                continue;
            }
            for (sector, cell) in (0..).zip(self.reference.cells(volume.number, position)) {
                let hole = !volume.base.holes(extent(sector, 1)).is_empty();
                let wanted = matches!(cell, Cell::Hole | Cell::Joined(0));
                assert_eq!(hole, wanted, "sector {sector} of volume {} at seq:{position}: {cell:?}", volume.number);
            }
        }
    }

    fn is_shown(&self, volume: &Volume, position: Position) -> bool {
        let member = self.journal.members().into_iter().find(|m| m.incarnation == volume.number);
        member.is_some_and(|m| m.joined.is_some_and(|j| j <= position)) && volume.left.is_none_or(|l| position < l)
    }

    fn check_kinds(&self, image: &Image, member: &Member) {
        let cells = self.reference.cells(member.incarnation, image.at().position);
        let pieces = image.pieces(member.incarnation, extent(0, member.size.get())).expect("pieces");
        let distributed = self.journal.space().distributed;
        let volume = self.volumes.iter().find(|volume| volume.number == member.incarnation).expect("a volume");
        let mut next = 0;
        for piece in pieces {
            assert_eq!(piece.extent.start().index(), next, "pieces cover the extent without a hole");
            next = piece.extent.end();
            for sector in piece.extent.start().index()..piece.extent.end() {
                let cell = cells[usize::try_from(sector).expect("small")];
                if piece.kind == PieceKind::Joined && self.journal.undo_bytes() > 0 {
                    // What the replica holds now says nothing of what it held.
                    continue;
                }
                if piece.kind == PieceKind::Joined && distributed >= Position::FIRST {
                    // What the replica was brought; where it knows of holes they are holes.
                    let hole = !volume.base.holes(extent(sector, 1)).is_empty();
                    assert!(volume.file.is_some() || hole == matches!(cell, Cell::Hole | Cell::Joined(0)), "{cell:?}");
                    continue;
                }
                let kind = match cell {
                    Cell::Joined(_) => PieceKind::Joined,
                    Cell::Data(_) => PieceKind::Data,
                    Cell::Zero => PieceKind::Zero,
                    Cell::Hole => PieceKind::Hole,
                };
                assert_eq!(piece.kind, kind, "sector {sector} at seq:{}", image.at().position);
            }
        }
        assert_eq!(next, member.size.get(), "pieces reach the end");
    }

    /// A random volume that is a member now.
    pub fn some_volume(&self, rng: &mut Rng) -> Volume {
        let present: Vec<&Volume> = self.volumes.iter().filter(|v| v.left.is_none()).collect();
        present[rng.index(present.len())].clone()
    }

    /// Lays one random record.
    pub fn lay_some(&mut self, rng: &mut Rng) {
        let volume = self.some_volume(rng);
        let extent = some_extent(rng, &volume);
        self.laying.pass(rng.below(1_000_000));
        match rng.below(12) {
            0..=5 => self.write(volume.number, extent),
            6 | 7 => self.punch(volume.number, extent),
            8 | 9 => self.zero(volume.number, extent),
            10 => self.mark(Op::Flush),
            _ => self.mark(Op::Noop),
        }
    }

    /// The restored content of every extent of a pending restore is the live content, kinds included.
    pub fn check_restore(&self) {
        let Some(map) = self.journal.pending_restore() else { return };
        let head = self.head();
        for (volume, extent) in &map.extents {
            let cells = self.reference.cells(*volume, head);
            let knows_no_holes = self.volumes.iter().any(|of| of.number == *volume && of.file.is_some());
            let mut next = extent.start().index();
            for piece in self.journal.restore_pieces(*volume, *extent, u64::MAX).expect("pieces of the live content") {
                assert_eq!(piece.extent.start().index(), next);
                next = piece.extent.end();
                let cells = &cells[usize::try_from(piece.extent.start().index()).expect("small")..];
                for (i, cell) in
                    cells.iter().take(usize::try_from(piece.extent.count().get()).expect("small")).enumerate()
                {
                    match (&piece.content, cell) {
                        (RestoreContent::Data(bytes), Cell::Data(_) | Cell::Joined(_)) => {
                            assert_eq!(bytes[i * 512..][..512], cell.bytes());
                        }
                        (RestoreContent::Data(bytes), _) if self.journal.space().distributed >= Position::FIRST => {
                            assert_eq!(bytes[i * 512..][..512], cell.bytes());
                        }
                        // A replica that knows nothing of holes had zeros there.
                        (RestoreContent::Zero, Cell::Hole | Cell::Joined(0)) if knows_no_holes => {}
                        (RestoreContent::Zero, Cell::Zero) | (RestoreContent::Hole, Cell::Hole | Cell::Joined(0)) => {}
                        (content, cell) => panic!("{cell:?} is restored as {content:?}"),
                    }
                }
            }
            assert_eq!(next, extent.end());
        }
    }

    /// By sector, whether the live content differs between two positions.
    pub fn differing(&self, a: Position, b: Position) -> BTreeMap<Incarnation, Vec<u64>> {
        let mut out = BTreeMap::new();
        for volume in &self.volumes {
            let (of_a, of_b) = (self.reference.cells(volume.number, a), self.reference.cells(volume.number, b));
            let sectors = of_a.iter().zip(of_b).enumerate().filter(|(_, (a, b))| a != b).map(|(i, _)| i as u64);
            out.insert(volume.number, sectors.collect());
        }
        out
    }
}
