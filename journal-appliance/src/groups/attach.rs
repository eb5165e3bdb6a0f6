//! A splitter brings a volume, or takes it away.
//!
//! Owns the order: checks, group, replica, catalog, JOIN; and the way back when one of them fails.

use std::path::PathBuf;
use std::sync::Arc;

use control::answer::{Attached, Outcome};
use control::error::ControlError;
use control::name::{Name, Named};
use control::request::AttachVolume;
use journal::{JoinRequest, Member};
use record::geometry::{LogicalBlock, SectorCount};
use record::ids::{GroupId, Incarnation, SplitterId, VolumeId};

use super::{Groups, Held, remove_file, segment_bytes};
use crate::catalog::MemberEntry;
use crate::group::{MemberPlan, journal_error};
use crate::replica;

impl Groups {
    /// Lets a volume join a group, or only says what that would take. Repeating it is harmless.
    pub fn attach(&self, ask: &AttachVolume) -> Result<Attached, ControlError> {
        let request = check(ask)?;
        let group = Name::parse(Named::Group, &ask.group)?;
        let _changing = self.changing();
        let held = match self.find(group.as_str()) {
            Some(held) => held,
            None if ask.create_group => return self.attach_to_new(ask, &group, request),
            None => {
                return Err(ControlError::not_found(format!("there is no group '{group}'"))
                    .hint(format!("undisk group create {group}")));
            }
        };
        let entry = held.entry();
        let journal = held.open()?.journal();
        let members = journal.members();
        if let Some(member) = members.iter().find(|m| m.left.is_none() && m.volume == request.volume) {
            return already(&held, member, &request);
        }
        if members.iter().any(|m| m.left.is_none() && m.name == request.name) {
            return Err(ControlError::refused(format!("group {group} has a volume '{}' already", request.name))
                .hint("choose another name, or another group"));
        }
        let doing = format!("let volume {} join group {group}", request.name);
        let number = journal.next_incarnation().map_err(|e| journal_error(&doing, &e))?;
        if let Some(forgotten) = entry.members.iter().find(|m| m.incarnation == number) {
            return Err(ControlError::refused(format!(
                "group {group} takes no volume: its journal lost what it knew of volume {}, whose replica is {}; nothing \
                 was changed",
                forgotten.name,
                forgotten.replica.display()
            ))
            .hint(format!("undisk journal verify {group}; give the volume another group")));
        }
        let plan = self.member_plan(request, number, ask.replica.as_ref(), &entry.folder)?;
        let attached = Attached {
            outcome: Outcome::Created,
            group_id: entry.id.to_string(),
            journal_id: entry.journal_id.to_string(),
            incarnation: plan.0.incarnation.get(),
            group_created: false,
            replica: plan.0.replica.clone(),
            journal: entry.journal,
            journal_bytes: 0,
        };
        if !ask.dry_run {
            self.add_member(&held, &plan.0, plan.1, false, &ask.splitter)?;
        }
        Ok(attached)
    }

    fn attach_to_new(&self, ask: &AttachVolume, group: &Name, request: JoinRequest) -> Result<Attached, ControlError> {
        let entry = self.plan(group, None, true)?;
        let (plan, found) = self.member_plan(request, Incarnation::new(1), ask.replica.as_ref(), &entry.folder)?;
        let mut attached = Attached {
            outcome: Outcome::Created,
            group_id: String::new(),
            journal_id: String::new(),
            incarnation: plan.incarnation.get(),
            group_created: true,
            replica: plan.replica.clone(),
            journal_bytes: segment_bytes(&entry.journal),
            journal: entry.journal,
        };
        if ask.dry_run {
            return Ok(attached);
        }
        let held = self.make(group, None, true)?;
        let entry = held.entry();
        attached.group_id = entry.id.to_string();
        attached.journal_id = entry.journal_id.to_string();
        if let Err(error) = self.add_member(&held, &plan, found, true, &ask.splitter) {
            if let Err(e) = self.unmake(&held) {
                tracing::error!(%group, error = %e, "failed to remove a group whose first volume could not join");
            }
            return Err(error);
        }
        Ok(attached)
    }

    fn member_plan(
        &self,
        request: JoinRequest,
        incarnation: Incarnation,
        replica: Option<&PathBuf>,
        folder: &std::path::Path,
    ) -> Result<(MemberPlan, replica::Found), ControlError> {
        let (path, found) = if let Some(path) = replica {
            (path.clone(), replica::look(path, request.size, &self.replicas())?)
        } else {
            // Its folder need not be there yet, so it cannot be looked at like a given one.
            let path = replica::usual_path(folder, incarnation.get());
            if path.exists() {
                return Err(ControlError::refused(format!(
                    "{} is in the way: the replica of volume {} would go there; nothing was changed",
                    path.display(),
                    request.name
                )));
            }
            (path, replica::Found::Nothing)
        };
        Ok((MemberPlan { request, incarnation, replica: path }, found))
    }

    fn add_member(
        &self,
        held: &Arc<Held>,
        plan: &MemberPlan,
        found: replica::Found,
        made_group: bool,
        splitter: &str,
    ) -> Result<(), ControlError> {
        let open = held.open()?;
        let member = MemberEntry {
            volume: plan.request.volume,
            incarnation: plan.incarnation,
            name: plan.request.name.clone(),
            replica: plan.replica.clone(),
            splitter: splitter.to_owned(),
            replica_made: found == replica::Found::Nothing,
            made_group,
        };
        // The catalog first, so that a crash leaves no file without a name.
        self.change_members(held, |members| members.push(member.clone()))?;
        let size = plan.request.size;
        let joined = replica::make(&plan.replica, size, found).and_then(|_| {
            let journal = plan.clone();
            open.call(move |group| group.join(&journal))?
        });
        joined.inspect_err(|_| {
            let in_journal = open.journal().members().iter().any(|m| m.incarnation == plan.incarnation);
            if in_journal {
                // JOIN is durable, only what comes behind it failed: repeating the request, or undoing it, goes on.
                return;
            }
            if member.replica_made {
                remove_file(&member.replica);
            }
            if let Err(e) = self.change_members(held, |members| members.retain(|m| m.incarnation != member.incarnation))
            {
                tracing::error!(error = %e, "failed to forget a volume that did not join");
            }
        })
    }

    fn change_members(&self, held: &Held, change: impl FnOnce(&mut Vec<MemberEntry>)) -> Result<(), ControlError> {
        self.change_entry(held, |entry| change(&mut entry.members))
    }

    /// Lets a volume leave. With `undo`, no trace stays of an attaching that failed half-way.
    pub fn detach(&self, group_id: &str, volume_id: &str, undo: bool) -> Result<(Outcome, String), ControlError> {
        let group =
            GroupId::parse(group_id).ok_or_else(|| ControlError::usage(format!("'{group_id}' is no group id")))?;
        let volume =
            VolumeId::parse(volume_id).ok_or_else(|| ControlError::usage(format!("'{volume_id}' is no volume id")))?;
        let _changing = self.changing();
        let Some(held) = self.by_id(group) else {
            return if undo {
                Ok((Outcome::AlreadySo, "there is no such group".to_owned()))
            } else {
                Err(ControlError::not_found(format!("this appliance has no group {group}")))
            };
        };
        let entry = held.entry();
        let open = held.open()?;
        let members = open.journal().members();
        let member = members.iter().find(|m| m.left.is_none() && m.volume == volume);
        let Some(member) = member else {
            return Ok((Outcome::AlreadySo, format!("volume {volume} is not in group {}", entry.name)));
        };
        let (incarnation, name) = (member.incarnation, member.name.clone());
        let listed = entry.members.iter().find(|m| m.incarnation == incarnation).cloned();
        if undo && members.len() == 1 && listed.as_ref().is_some_and(|m| m.made_group) {
            held.nothing_held(&format!("remove group {}", entry.name))?;
            self.unmake(&held)?;
            return Ok((Outcome::Changed, format!("group {} is gone again", entry.name)));
        }
        open.call(move |group| group.leave(incarnation))??;
        if member.joined.is_none() {
            // No point ever showed it, so nothing needs its replica.
            if let Some(listed) = listed.filter(|m| m.replica_made) {
                remove_file(&listed.replica);
            }
            self.change_members(&held, |members| members.retain(|m| m.incarnation != incarnation))?;
        }
        Ok((Outcome::Changed, format!("volume {name} left group {}; its history stays", entry.name)))
    }
}

fn check(ask: &AttachVolume) -> Result<JoinRequest, ControlError> {
    let name = Name::parse(Named::Volume, &ask.name)?;
    let volume = VolumeId::parse(&ask.volume_id)
        .ok_or_else(|| ControlError::usage(format!("'{}' is no volume id", ask.volume_id)))?;
    let size = SectorCount::new(ask.sectors).filter(|size| *size != SectorCount::ZERO);
    let size = size.ok_or_else(|| ControlError::usage(format!("volume {name} cannot have {} sectors", ask.sectors)))?;
    let block = LogicalBlock::new(ask.block_bytes).ok_or_else(|| {
        ControlError::usage(format!("volume {name} cannot have logical blocks of {} bytes", ask.block_bytes))
    })?;
    let splitter = SplitterId::parse(&ask.splitter_id)
        .ok_or_else(|| ControlError::usage(format!("'{}' is no splitter id", ask.splitter_id)))?;
    Ok(JoinRequest { volume, name: name.into(), size, block, splitter })
}

fn already(held: &Held, member: &Member, request: &JoinRequest) -> Result<Attached, ControlError> {
    let entry = held.entry();
    if member.splitter != request.splitter {
        return Err(ControlError::refused(format!(
            "volume {} is in group {} already, and another splitter serves it",
            member.volume, entry.name
        )));
    }
    if (member.size, member.block, &member.name) != (request.size, request.block, &request.name) {
        return Err(ControlError::refused(format!(
            "volume {} is in group {} already, with {} sectors in blocks of {} bytes under the name {}",
            member.volume,
            entry.name,
            member.size,
            member.block.bytes(),
            member.name
        )));
    }
    let listed = entry.members.iter().find(|m| m.incarnation == member.incarnation);
    Ok(Attached {
        outcome: Outcome::AlreadySo,
        group_id: entry.id.to_string(),
        journal_id: entry.journal_id.to_string(),
        incarnation: member.incarnation.get(),
        group_created: listed.is_some_and(|m| m.made_group),
        replica: listed
            .map_or_else(|| replica::usual_path(&entry.folder, member.incarnation.get()), |m| m.replica.clone()),
        journal: entry.journal,
        journal_bytes: 0,
    })
}
