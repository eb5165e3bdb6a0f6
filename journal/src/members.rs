//! Which volumes a group has, and had.
//!
//! Owns incarnations, from JOIN over JOINED to LEAVE. Pure.

use crate::checkpoint::{In, Out};
use record::geometry::{LogicalBlock, SectorCount};
use record::ids::{Incarnation, SplitterId, VolumeId};
use record::member::{JoinNote, NAME_BYTES_MAX};
use record::position::Position;
use std::collections::BTreeMap;

/// A volume that is to join.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinRequest {
    /// The volume.
    pub volume: VolumeId,
    /// Its name, at most 127 bytes; no other member has it.
    pub name: String,
    /// Its size.
    pub size: SectorCount,
    /// Its logical block size.
    pub block: LogicalBlock,
    /// The splitter that serves it.
    pub splitter: SplitterId,
}

/// One membership of a volume.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// The number that stands for it in records.
    pub incarnation: Incarnation,
    /// The volume.
    pub volume: VolumeId,
    /// Its name.
    pub name: String,
    /// Its size.
    pub size: SectorCount,
    /// Its logical block size.
    pub block: LogicalBlock,
    /// The splitter that serves it.
    pub splitter: SplitterId,
    /// The position of its JOIN.
    pub join: Position,
    /// The position of its JOINED: points from there on show it.
    pub joined: Option<Position>,
    /// The position of its LEAVE: points from there on do not.
    pub left: Option<Position>,
}

impl Member {
    /// Whether an image at `position` shows it.
    pub fn shown_at(&self, position: Position) -> bool {
        self.joined.is_some_and(|joined| joined <= position) && self.left.is_none_or(|left| position < left)
    }
}

/// All memberships of a group.
#[derive(Debug, Default)]
pub(crate) struct Members {
    by_incarnation: BTreeMap<Incarnation, Member>,
    /// The largest number that any record named: none up to it is given out again.
    largest: u32,
}

impl Members {
    /// Every membership there was.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Member> {
        self.by_incarnation.values()
    }

    /// One membership.
    pub(crate) fn get(&self, incarnation: Incarnation) -> Option<&Member> {
        self.by_incarnation.get(&incarnation)
    }

    /// The membership that records may name: joining or joined, and not left.
    pub(crate) fn present(&self, incarnation: Incarnation) -> Option<&Member> {
        self.get(incarnation).filter(|member| member.left.is_none())
    }

    /// Whether a splitter serves a member.
    pub(crate) fn served_by(&self, splitter: SplitterId) -> bool {
        self.all().any(|member| member.left.is_none() && member.splitter == splitter)
    }

    /// Whether an image of now shows volumes of more than one splitter.
    pub(crate) fn are_shared(&self) -> bool {
        let mut shown = self.all().filter(|member| member.joined.is_some() && member.left.is_none());
        let first = shown.next().map(|member| member.splitter);
        shown.any(|member| Some(member.splitter) != first)
    }

    /// What a JOIN for this request says, or why there cannot be one.
    pub(crate) fn plan_join(&self, request: &JoinRequest) -> Result<JoinNote, String> {
        if request.name.is_empty() || request.name.len() > NAME_BYTES_MAX {
            return Err(format!("the volume's name must have 1 to {NAME_BYTES_MAX} bytes"));
        }
        if request.size == SectorCount::ZERO {
            return Err(format!("volume '{}' has no sectors", request.name));
        }
        for member in self.all().filter(|member| member.left.is_none()) {
            if member.name == request.name {
                return Err(format!("the group has a volume named '{}' already", request.name));
            }
            if member.volume == request.volume {
                return Err(format!(
                    "volume '{}' is a member of the group already, as '{}'",
                    request.name, member.name
                ));
            }
        }
        Ok(JoinNote {
            volume: request.volume,
            incarnation: self.next()?,
            size: request.size,
            block: request.block,
            splitter: request.splitter,
            name: request.name.clone(),
        })
    }

    /// The number that the next member gets.
    pub(crate) fn next(&self) -> Result<Incarnation, String> {
        let next = self.largest.checked_add(1).ok_or("the group has used up its incarnation numbers")?;
        Ok(Incarnation::new(next))
    }

    /// A record names this incarnation, whatever it says of it.
    pub(crate) fn seen(&mut self, incarnation: Incarnation) {
        self.largest = self.largest.max(incarnation.get());
    }

    /// JOIN.
    pub(crate) fn join(&mut self, note: JoinNote, at: Position) {
        self.seen(note.incarnation);
        let JoinNote { volume, incarnation, size, block, splitter, name } = note;
        let member = Member { incarnation, volume, name, size, block, splitter, join: at, joined: None, left: None };
        self.by_incarnation.entry(incarnation).or_insert(member);
    }

    /// JOINED.
    pub(crate) fn joined(&mut self, incarnation: Incarnation, at: Position) {
        if let Some(member) = self.by_incarnation.get_mut(&incarnation) {
            member.joined.get_or_insert(at);
        }
    }

    /// For a checkpoint.
    pub(crate) fn save(&self, out: &mut Out) {
        out.u32(self.largest);
        out.list(self.by_incarnation.values(), |out, member| {
            let Member { incarnation, volume, name, size, block, splitter, join, joined, left } = member;
            let note = JoinNote {
                volume: *volume,
                incarnation: *incarnation,
                size: *size,
                block: *block,
                splitter: *splitter,
                name: name.clone(),
            };
            out.bytes(&note.encode());
            out.position(*join);
            out.maybe(*joined, Out::position);
            out.maybe(*left, Out::position);
        });
    }

    /// From a checkpoint.
    pub(crate) fn restore(input: &mut In<'_>) -> Option<Self> {
        let mut members = Self { largest: input.u32()?, ..Self::default() };
        let all: Vec<Member> = input.list(|input| {
            let JoinNote { volume, incarnation, size, block, splitter, name } = JoinNote::decode(input.bytes()?)?;
            let (join, joined, left) = (input.position()?, input.maybe(In::position)?, input.maybe(In::position)?);
            Some(Member { incarnation, volume, name, size, block, splitter, join, joined, left })
        })?;
        members.by_incarnation = all.into_iter().map(|member| (member.incarnation, member)).collect();
        Some(members)
    }

    /// LEAVE.
    pub(crate) fn leave(&mut self, incarnation: Incarnation, at: Position) {
        if let Some(member) = self.by_incarnation.get_mut(&incarnation) {
            member.left.get_or_insert(at);
        }
    }
}
