//! Volumes that join and leave a group.
//!
//! Owns the order JOIN -> replica attached -> splitter told, and LEAVE -> splitter told. Where a replica lies is
//! decided and written down before, by `groups`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use control::error::ControlError;
use journal::JoinRequest;
use record::conversation::ToSplitter;
use record::ids::{Incarnation, SplitterId};
use record::position::Position;

use super::{Group, journal_error};
use crate::intake::session::{Input, Volume};

/// A volume that is to join, its replica made.
#[derive(Clone, Debug)]
pub struct MemberPlan {
    /// What its JOIN record says.
    pub request: JoinRequest,
    /// The number that it must get: its replica is filed under it.
    pub incarnation: Incarnation,
    /// Its replica.
    pub replica: PathBuf,
}

impl Group {
    /// Lets a volume join.
    pub fn join(&mut self, plan: &MemberPlan) -> Result<(), ControlError> {
        let doing = format!("let volume {} join group {}", plan.request.name, self.name);
        let incarnation = self.journal.join(&plan.request, self.label()).map_err(|e| journal_error(&doing, &e))?;
        assert_eq!(incarnation, plan.incarnation, "one thread at a time changes a group's membership");
        self.journal.attach_base(incarnation, &plan.replica).map_err(|e| journal_error(&doing, &e))?;
        tracing::info!(group = self.name, volume = plan.request.name, %incarnation, "a volume begins to join");
        self.members_changed();
        self.commit_own();
        Ok(())
    }

    /// Lets a volume leave.
    pub fn leave(&mut self, volume: Incarnation) -> Result<Position, ControlError> {
        let doing = format!("let volume {volume} leave group {}", self.name);
        let position = self.journal.leave(volume, self.label()).map_err(|e| journal_error(&doing, &e))?;
        tracing::info!(group = self.name, %volume, %position, "a volume left");
        self.members_changed();
        self.commit_own();
        Ok(position)
    }

    /// Forgets a bookmark; whether there was one.
    pub fn remove_bookmark(&mut self, name: &str) -> Result<bool, ControlError> {
        let doing = format!("remove bookmark '{name}' of group {}", self.name);
        let removed = self.journal.remove_bookmark(name, self.label()).map_err(|e| journal_error(&doing, &e))?;
        self.commit_own();
        Ok(removed)
    }

    /// Tells every splitter, and its intake, which of its volumes belong to the group now.
    pub(super) fn members_changed(&mut self) {
        let members = self.journal.members();
        let current: BTreeSet<_> = members.iter().filter(|m| m.left.is_none()).map(|m| m.splitter).collect();
        self.participants = current.into_iter().collect();
        for splitter in self.sides.ids() {
            self.feed(splitter, Input::Volumes(self.volumes_of(splitter)));
            if self.sides.is_linked(splitter) {
                let members = self.members(splitter);
                self.send(splitter, &ToSplitter::Members { members });
            }
        }
        self.sides.keep(&self.participants);
    }

    /// A splitter's volumes of the group, as its intake cares for them.
    pub(super) fn volumes_of(&self, splitter: SplitterId) -> BTreeMap<Incarnation, Volume> {
        let members = self.journal.members();
        let own = members.iter().filter(|m| m.left.is_none() && m.splitter == splitter);
        own.map(|m| (m.incarnation, Volume { size: m.size, joined: m.joined.is_some() })).collect()
    }
}
