//! What is kept of the past: forgetting points, bringing the replicas nearer, giving segments back.
//!
//! Owns the order of the steps (ENGINE 24), each durable before the next: points are forgotten; what they alone needed is
//! overwritten in the replicas; the replicas are synced; the journal says that they hold a newer position, and that the
//! segments in front of it are not its own any more; their files go. How far is decided in `distribution`, when is its
//! caller's affair.

use super::Journal;
use crate::base::BaseDevice;
use crate::base_lost;
use crate::chunks::Chunk;
use crate::distribution;
use crate::error::{Cause, JournalError};
use crate::image::{Image, ImagePiece, PieceKind};
use crate::lock::{lock, read, write};
use crate::mark::TailMark;
use crate::members::Member;
use crate::open::by_volume;
use crate::path::Path;
use crate::place::{SEGMENTS, SegmentNumber};
use crate::restore;
use crate::segment::FIRST_CHUNK_AT;
use crate::state::State;
use crate::superblock::{Replica, Retained};
use crate::timeline::At;
use crate::undo::{Change, Changes};
use record::geometry::{Extent, SECTOR_BYTES};
use record::ids::Incarnation;
use record::position::{Label, Position};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub use crate::distribution::HeldBack;

/// Most bytes that are read and written at once.
const PIECE_BYTES: u64 = 1 << 20;
/// Most of a volume that is looked at at once: a discard of a terabyte is not asked about in megabytes.
const LOOK_SECTORS: u64 = (64 << 20) / SECTOR_BYTES;
/// Most bytes that go to the UNDO stream at once.
const CHANGE_BYTES_MAX: u64 = 4 << 20;
/// Most segments that one move goes past: less is done again after a crash.
const MOVE_SEGMENTS: u32 = 16;

/// What one segment of the journal holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentUse {
    /// Bytes of its file.
    pub bytes: u64,
    /// Its last record.
    pub last: At,
}

/// What a journal's files hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Space {
    /// Bytes of an ordinary segment.
    pub segment_bytes: u64,
    /// Positions before it are no points any more, but for bookmarks; the origin: nothing was ever forgotten.
    pub horizon: At,
    /// What is not behind this position is in the replicas.
    pub distributed: Position,
    /// The segments that hold records, oldest first.
    pub segments: Vec<SegmentUse>,
    /// Bytes of everything else.
    pub other_bytes: u64,
}

/// How far the replicas are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Distributed {
    /// What is not behind this position is in them.
    pub to: Position,
    /// Whether there is more to be done at once.
    pub more: bool,
    /// What keeps them from following the horizon.
    pub held_back_by: Option<HeldBack>,
}

/// What was given back.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Reclaimed {
    /// Segments.
    pub segments: u64,
    /// Bytes of their files.
    pub bytes: u64,
}

/// The replicas on their way from one position to another.
#[derive(Debug)]
pub(super) struct Move {
    /// The target, as it is.
    image: Image,
    /// What has to be brought over, in address order.
    todo: VecDeque<(Incarnation, Extent)>,
    /// The replicas that were written to.
    touched: BTreeMap<Incarnation, Arc<dyn BaseDevice>>,
    /// What cannot be read.
    lost: Vec<(Incarnation, Extent)>,
    /// What was brought over.
    done: Vec<(Incarnation, Extent)>,
    /// How far they will be.
    target: Position,
    /// The first segment that stays, and its first record.
    stays: (SegmentNumber, Position),
    /// What goes to the UNDO stream, since the replicas are further already, and how many bytes of data that is.
    changes: Changes,
    change_bytes: u64,
    /// The volumes where the replicas are.
    ahead: Option<Image>,
}

/// Where what is brought over is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// In the replica.
    Replica,
    /// The replica is further, and holds something newer.
    Undo,
    /// The replica is further, and holds the same.
    There,
}

impl Journal {
    // ---- checkpoints

    /// A chunk is to be taken in: when it begins a segment, what is in front of it may be worth a checkpoint.
    pub(super) fn look_at_checkpoints(&self, chunk: &Chunk, state: &mut State) {
        let mut checkpoints = lock(&self.checkpoints);
        checkpoints.look(state);
        let segment = chunk.place.segment;
        let first = *state.retained();
        let segments = u64::from(segment.get().saturating_sub(first.first_segment.get())) + 1;
        if chunk.place.offset == FIRST_CHUNK_AT && checkpoints.is_due(segment, segments) {
            let header = &chunk.header;
            let mark = TailMark {
                epoch: header.epoch,
                next_chunk: header.number,
                next_position: header.first_position,
                previous: header.previous,
                streams: *state.sessions.streams(),
                label: state.timeline.head().label,
            };
            checkpoints.write(segment, &mark, first.first_position, state);
        }
    }

    // ---- asking

    /// What the journal's files hold, and from where on its points are offered.
    pub fn space(&self) -> Space {
        let undo_bytes = self.undo_bytes();
        let (sizes, disk_bytes) = {
            let tail = lock(&self.tail);
            (tail.sizes(), tail.disk_use().1 + undo_bytes)
        };
        let state = read(&self.reader.core.state);
        let Retained { horizon, distributed, .. } = *state.retained();
        let segments: Vec<SegmentUse> = state
            .chunks()
            .by_segment()
            .filter_map(|chunks| chunks.last())
            .map(|last| {
                let position = last.next().previous().unwrap_or(Position::ORIGIN);
                SegmentUse { bytes: sizes.of(last), last: state.timeline.at(position) }
            })
            .collect();
        let other_bytes = disk_bytes.saturating_sub(segments.iter().map(|segment| segment.bytes).sum());
        Space { segment_bytes: sizes.ordinary, horizon, distributed, segments, other_bytes }
    }

    /// What each of these positions has in common with the live line, and the targets of rollbacks of which what they left
    /// can be chosen when `horizon` is the oldest point: behind the oldest of these nothing comes free.
    pub fn floors(&self, pins: &[Position], horizon: Position) -> Vec<Position> {
        let state = read(&self.reader.core.state);
        let rollbacks = state.timeline.rollbacks();
        let path = |at| Path::of(rollbacks, Position::ORIGIN, at);
        let live = path(state.timeline.head().position);
        let common = |pin: &Position| live.newest_common(&path(*pin)).unwrap_or(Position::ORIGIN);
        let left = rollbacks.iter().filter(|rollback| rollback.at > horizon).map(|rollback| rollback.target);
        pins.iter().map(common).chain(left).collect()
    }

    /// The last position whose label is not after this one; the origin when there is none.
    pub fn position_at(&self, label: Label) -> Position {
        self.reader.position_at(label)
    }

    // ---- forgetting

    /// Positions before `horizon` are no points any more, but for bookmarks and what open images show. Where it is none
    /// itself - in a gap, between barriers - the last point in front of it stays, so that there always is one (ENGINE 5).
    /// Durable when it returns. Never moves back; answers with whether it moved.
    pub fn forget(&self, horizon: Position) -> Result<bool, JournalError> {
        let core = &self.reader.core;
        let point = {
            let state = read(&core.state);
            state.timeline.last_point(horizon.min(state.timeline.head().position))
        };
        // Where nothing in front of it can be chosen, there is nothing that could be the oldest point.
        let Some(point) = point else { return Ok(false) };
        let horizon = core.at(point);
        let mut tail = lock(&self.tail);
        let retained = *tail.retained();
        if horizon.position <= retained.horizon.position {
            return Ok(false);
        }
        tail.retain(Retained { horizon, ..retained })?;
        write(&core.state).set_horizon(horizon);
        Ok(true)
    }

    /// Brings the replicas nearer to the oldest point by at most about so many bytes; what no point needs any more is
    /// not the journal's from then on. Slow: reads and writes data. From any thread; one at a time.
    pub fn distribute(&self, bytes: u64) -> Result<Distributed, JournalError> {
        let mut moving = lock(&self.moving);
        let to = || read(&self.reader.core.state).retained().distributed;
        let held_back_by = match self.begin_move(&mut moving)? {
            Ok(held) => held,
            Err(replica) => {
                return Ok(Distributed { to: to(), more: false, held_back_by: Some(replica) });
            }
        };
        let Some(going) = moving.as_mut() else {
            return Ok(Distributed { to: to(), more: false, held_back_by });
        };
        let replica = lock(&self.tail).replica();
        let mut left = bytes;
        let mut failed = None;
        while left > 0
            && let Some((volume, extent)) = going.todo.pop_front()
        {
            let now = extent.pieces(LOOK_SECTORS).next().unwrap_or(extent);
            match going.bring(volume, now, replica, left) {
                Ok((reached, bytes)) => {
                    if let Some(rest) = Extent::between(reached, extent.end()) {
                        going.todo.push_front((volume, rest));
                    }
                    left = left.saturating_sub(bytes.max(SECTOR_BYTES));
                }
                Err(error) => {
                    let name = read(&self.reader.core.state).members.get(volume).map(|member| member.name.clone());
                    failed = Some(format!("{}: {error}", name.unwrap_or_default()));
                    break;
                }
            }
        }
        self.folded.fetch_add(1, Ordering::Relaxed);
        let failed = failed.or_else(|| going.commit().err().map(|error| error.to_string()));
        if let Some(why) = failed {
            *moving = None;
            return Ok(Distributed { to: to(), more: false, held_back_by: Some(HeldBack::Replica(why)) });
        }
        if !going.todo.is_empty() {
            return Ok(Distributed { to: to(), more: true, held_back_by });
        }
        let Some(done) = moving.take() else { return Err(JournalError::Refused("no move is under way".into())) };
        let to = self.end_move(done)?;
        Ok(Distributed { to, more: true, held_back_by })
    }

    /// Begins a move if there is none, and something to be gained. Inner `Err`: a replica is not there.
    fn begin_move(&self, moving: &mut Option<Move>) -> Result<Result<Option<HeldBack>, HeldBack>, JournalError> {
        let core = &self.reader.core;
        let mut tail = lock(&self.tail);
        tail.writable()?;
        let retained = *tail.retained();
        let own = moving.as_ref().map(|going| going.image.at().position);
        let others = |(at, count): (&Position, &u64)| (own != Some(*at) || *count > 1).then_some(*at);
        let images: Vec<Position> = lock(&core.images).iter().filter_map(others).collect();
        let checkpoints: Vec<_> = lock(&self.checkpoints).known().to_vec();
        let (ancestor, target, stays, held, all) = {
            let state = read(&core.state);
            let (ancestor, held) = distribution::common_ancestor(&state.timeline, &state.members, images.into_iter());
            if moving.is_some() {
                return Ok(Ok(held));
            }
            let furthest = SegmentNumber::new(retained.first_segment.get().saturating_add(MOVE_SEGMENTS));
            // The newest one stays: what is in front of the oldest segment is known twice then.
            let behind = checkpoints.split_last().map_or(&[][..], |(_, others)| others);
            let passed = |(segment, first): &&(SegmentNumber, Position)| {
                *segment > retained.first_segment && first.previous().is_some_and(|last| last <= ancestor)
            };
            // Where none is that near, the nearest.
            let near = behind.iter().rev().filter(passed).find(|(segment, _)| *segment <= furthest);
            let gained = near.or_else(|| behind.iter().find(passed));
            // A move that was begun ends first, whatever came since.
            let pending = (retained.target > retained.distributed).then_some(retained.target);
            let Some(stays) = gained.copied() else { return Ok(Ok(held)) };
            let last = stays.1.previous().unwrap_or(Position::ORIGIN);
            let target = pending.map_or(last, |pending| pending.max(last)).max(retained.distributed);
            let all = state.has_lost(retained.distributed, target);
            (ancestor, target, stays, held, all)
        };
        // Those that joined, and that some point shows.
        let wanted = |member: &&Member| {
            member.join <= target && member.joined.is_some() && member.left.is_none_or(|left| left > ancestor)
        };
        let members: Vec<Member> = read(&core.state).members.all().filter(wanted).cloned().collect();
        if let Some(missing) = members.iter().find(|member| core.base(member.incarnation).is_none()) {
            return Ok(Err(HeldBack::Replica(format!("{}: it is not attached", missing.name))));
        }
        if target > retained.target {
            tail.retain(Retained { target, ..retained })?;
        }
        drop(tail);
        let image = Image::along(core, ancestor, target, members.clone());
        let mut todo = VecDeque::new();
        for member in &members {
            let Some(whole) = Extent::whole(member.size) else { continue };
            let ask = {
                let state = read(&core.state);
                let path = state.path(member, ancestor).up_to(target).without(&Path::straight(retained.distributed));
                state.touched_later(member.incarnation, &path)
            };
            // Records of which nobody knows what they changed may have changed anything.
            let touched = if all { vec![whole] } else { ask() };
            todo.extend(touched.into_iter().filter_map(|e| e.intersection(whole)).map(|e| (member.incarnation, e)));
        }
        *moving = Some(Move {
            image,
            todo,
            touched: BTreeMap::new(),
            lost: Vec::new(),
            done: Vec::new(),
            target,
            stays,
            changes: Vec::new(),
            change_bytes: 0,
            ahead: None,
        });
        Ok(Ok(held))
    }

    /// Everything was brought over.
    fn end_move(&self, done: Move) -> Result<Position, JournalError> {
        let core = &self.reader.core;
        let to = done.target;
        for (volume, base) in &done.touched {
            base.sync().map_err(|source| core.io(&format!("sync the replica of volume {volume}"), source))?;
        }
        let mut tail = lock(&self.tail);
        tail.writable()?;
        let disk = core.files.disk().clone();
        let before = read(&core.state).base_lost().to_vec();
        // What was lost and was written over since is not lost any more.
        let mut lost = restore::map_of(0, to, before.clone()).without(&done.done).extents;
        lost.extend(done.lost);
        let lost = by_volume(lost);
        let stored = base_lost::store(disk.as_ref(), core.id, to, &lost, &before);
        stored.map_err(|source| core.io("write what the replicas lack", source))?;
        let (first_segment, first_position) = done.stays;
        let retained = Retained { distributed: to, first_segment, first_position, ..*tail.retained() };
        tail.retain(retained)?;
        let mut state = write(&core.state);
        state.distributed(to, lost);
        state.forget(first_segment, first_position);
        self.given_up.store(true, Ordering::Relaxed);
        Ok(to)
    }

    /// Removes the files of segments that are not the journal's any more. A few quick operations, none when nothing was
    /// given up since the last time.
    pub fn reclaim(&self) -> Result<Reclaimed, JournalError> {
        if !self.given_up.load(Ordering::Relaxed) {
            return Ok(Reclaimed::default());
        }
        let core = &self.reader.core;
        let disk = core.files.disk().clone();
        let mut tail = lock(&self.tail);
        tail.writable()?;
        let first = tail.retained().first_segment;
        let failed = |source: io::Error| core.io("give segments back", source);
        // Both superblocks name what stays before anything goes (ENGINE 25).
        let retained = *tail.retained();
        tail.retain(retained)?;
        core.files.forget_before(first);
        let names = disk.list(SEGMENTS).map_err(failed)?;
        let mut reclaimed = Reclaimed::default();
        for number in names.iter().filter_map(|name| SegmentNumber::of_file(name)).filter(|number| *number < first) {
            reclaimed.bytes += tail.retire(number).map_err(failed)?;
            reclaimed.segments += 1;
        }
        if reclaimed.segments > 0 {
            disk.sync_folder(SEGMENTS).map_err(failed)?;
            lock(&self.checkpoints).forget(first).map_err(failed)?;
        }
        self.given_up.store(false, Ordering::Relaxed);
        Ok(reclaimed)
    }
}

impl Move {
    /// Brings a run of sectors over, or a front part of it that has about so many bytes of data; answers with the sector up to which
    /// that was, and the bytes of data in it.
    fn bring(&mut self, volume: Incarnation, extent: Extent, replica: Replica, most: u64) -> io::Result<(u64, u64)> {
        let mut bytes = 0;
        let core = self.image.core().clone();
        let base = core.base(volume).ok_or_else(|| io::Error::other("it is not attached"))?;
        let pieces = self.image.pieces(volume, extent).map_err(|failure| io::Error::other(failure.to_string()))?;
        for piece in pieces {
            if bytes >= most {
                return Ok((piece.extent.start().index(), bytes));
            }
            match piece.kind {
                PieceKind::Joined => continue,
                PieceKind::Refused => {
                    self.lost.push((volume, piece.extent));
                    continue;
                }
                PieceKind::Data | PieceKind::Zero | PieceKind::Hole => {}
            }
            for (part, way) in self.ways(volume, &piece, replica)? {
                match (way, piece.kind) {
                    (Way::There, _) => self.changes.push((volume, part, Change::Drop)),
                    (Way::Replica, PieceKind::Zero) => base.allocate_zeros(part)?,
                    (Way::Replica, PieceKind::Hole) => base.zero(part)?,
                    (Way::Undo, PieceKind::Zero) => self.changes.push((volume, part, Change::Zero)),
                    (Way::Undo, PieceKind::Hole) => self.changes.push((volume, part, Change::Hole)),
                    (_, _) => {
                        for some in part.pieces(PIECE_BYTES / SECTOR_BYTES) {
                            self.copy_needed(base.as_ref(), volume, some, way)?;
                        }
                        bytes += part.bytes();
                    }
                }
                self.done.push((volume, part));
                if way == Way::Replica {
                    self.touched.entry(volume).or_insert_with(|| base.clone());
                }
            }
            if self.change_bytes >= CHANGE_BYTES_MAX {
                self.commit()?;
            }
        }
        Ok((extent.end(), bytes))
    }

    /// Where a piece goes: to the replica, unless that is further already.
    fn ways(&mut self, volume: Incarnation, piece: &ImagePiece, replica: Replica) -> io::Result<Vec<(Extent, Way)>> {
        let member = self.image.members().iter().find(|member| member.incarnation == volume);
        let joined = member.and_then(|member| member.joined);
        let at = match replica {
            Replica::Lower => return Ok(vec![(piece.extent, Way::Replica)]),
            // Nobody knows what it holds now.
            Replica::Between { .. } => return Ok(vec![(piece.extent, Way::Undo)]),
            // It was left alone since the volume joined.
            Replica::At(at) if joined.is_none_or(|joined| joined > at) => {
                return Ok(vec![(piece.extent, Way::Replica)]);
            }
            Replica::At(at) => at,
        };
        let ahead = match self.ahead.take().filter(|ahead| ahead.at().position == at) {
            Some(ahead) => ahead,
            None => Image::in_passing(self.image.core(), at, self.image.members().to_vec()),
        };
        let there = ahead.pieces(volume, piece.extent);
        self.ahead = Some(ahead);
        let there = there.map_err(|failure| io::Error::other(failure.to_string()))?;
        let same = |other: &ImagePiece| (other.position, other.kind) == (piece.position, piece.kind);
        Ok(there.iter().map(|other| (other.extent, if same(other) { Way::There } else { Way::Undo })).collect())
    }

    /// What goes to the UNDO stream becomes durable.
    fn commit(&mut self) -> io::Result<()> {
        if self.changes.is_empty() {
            return Ok(());
        }
        self.image.core().undo.commit(&self.changes)?;
        self.changes.clear();
        self.change_bytes = 0;
        Ok(())
    }

    fn put(
        &mut self,
        base: &dyn BaseDevice,
        volume: Incarnation,
        extent: Extent,
        way: Way,
        data: &[u8],
    ) -> io::Result<()> {
        match way {
            Way::Replica => base.write(extent, data),
            Way::Undo => {
                self.change_bytes += extent.bytes();
                self.changes.push((volume, extent, Change::Data(data.to_vec())));
                Ok(())
            }
            Way::There => Ok(()),
        }
    }

    /// Brings data over, but for what is not there any more: no point shows that, since every one that comes behind it has
    /// something newer there (ENGINE 14).
    fn copy_needed(&mut self, base: &dyn BaseDevice, volume: Incarnation, extent: Extent, way: Way) -> io::Result<()> {
        let lacking = self.image.lacking(volume, extent).map_err(|failure| io::Error::other(failure.to_string()))?;
        for there in crate::index::subtract(&[extent], &lacking) {
            self.copy(base, volume, there, way)?;
        }
        Ok(())
    }

    fn copy(&mut self, base: &dyn BaseDevice, volume: Incarnation, extent: Extent, way: Way) -> io::Result<()> {
        let bytes = usize::try_from(extent.bytes()).map_err(io::Error::other)?;
        let mut buffer = vec![0; bytes];
        let Err(failure) = self.image.read(volume, extent, &mut buffer) else {
            return self.put(base, volume, extent, way, &buffer);
        };
        match failure.cause {
            Cause::Checksum { .. } | Cause::LostRecords { .. } => {}
            // What cannot be read now may be read later.
            Cause::Unreadable { .. } | Cause::Replica { .. } | Cause::NotThere => {
                return Err(io::Error::other(failure.to_string()));
            }
        }
        // What is damaged is not brought over as something else: from here on it is refused.
        for sound in crate::index::subtract(&[extent], &failure.damaged) {
            let at = usize::try_from((sound.start().index() - extent.start().index()) * SECTOR_BYTES).unwrap_or(bytes);
            let len = usize::try_from(sound.bytes()).unwrap_or(0);
            if let Some(part) = buffer.get(at..at + len) {
                self.put(base, volume, sound, way, part)?;
            }
        }
        self.lost.extend(failure.damaged.iter().map(|extent| (volume, *extent)));
        Ok(())
    }
}
