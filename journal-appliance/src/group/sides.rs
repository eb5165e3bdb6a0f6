//! The splitters of a group, as far as this process hears of them.
//!
//! Owns which connection belongs to which splitter, and each splitter's intake and outbox. Decides nothing.

use std::collections::BTreeMap;

use record::ids::SplitterId;

use crate::intake::link::{Link, LinkId, Opening};
use crate::intake::outbox::Outbox;
use crate::intake::session::{Intake, Millis};

/// One splitter.
#[derive(Debug, Default)]
pub(super) struct Side {
    /// What people call it.
    pub(super) name: String,
    pub(super) intake: Intake,
    pub(super) outbox: Option<Outbox>,
    /// The last reason for which a link was refused: one that comes back again and again is told of once.
    pub(super) refused: String,
}

/// All that opened a link.
#[derive(Debug, Default)]
pub(super) struct Sides {
    by_splitter: BTreeMap<SplitterId, Side>,
    /// Connections that speak or want to.
    links: BTreeMap<LinkId, (SplitterId, Link)>,
}

impl Sides {
    /// A connection opens; whether its splitter is new here.
    pub(super) fn open(&mut self, link: Link, opening: &Opening) -> bool {
        let new = !self.by_splitter.contains_key(&opening.splitter);
        self.links.insert(link.id(), (opening.splitter, link));
        self.by_splitter.entry(opening.splitter).or_default().name.clone_from(&opening.name);
        new
    }

    /// Forgets a connection; whose it was.
    pub(super) fn close(&mut self, link: LinkId) -> Option<(SplitterId, Link)> {
        self.links.remove(&link)
    }

    /// Forgets splitters that are not connected, but for these.
    pub(super) fn keep(&mut self, splitters: &[SplitterId]) {
        let links = &self.links;
        let connected = |splitter: &SplitterId| links.values().any(|(of, _)| of == splitter);
        self.by_splitter.retain(|splitter, _| splitters.contains(splitter) || connected(splitter));
    }

    /// All connections.
    pub(super) fn links(&self) -> impl Iterator<Item = &Link> {
        self.links.values().map(|(_, link)| link)
    }

    /// All splitters.
    pub(super) fn ids(&self) -> Vec<SplitterId> {
        self.by_splitter.keys().copied().collect()
    }

    /// One splitter.
    pub(super) fn get(&self, splitter: SplitterId) -> Option<&Side> {
        self.by_splitter.get(&splitter)
    }

    /// One splitter, to be changed.
    pub(super) fn get_mut(&mut self, splitter: SplitterId) -> Option<&mut Side> {
        self.by_splitter.get_mut(&splitter)
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (SplitterId, &Side)> {
        self.by_splitter.iter().map(|(splitter, side)| (*splitter, side))
    }

    /// What people call a splitter: its name, or its id while it has not said it.
    pub(super) fn name(&self, splitter: SplitterId) -> String {
        match self.get(splitter) {
            Some(side) if !side.name.is_empty() => side.name.clone(),
            Some(_) | None => splitter.to_string(),
        }
    }

    /// The splitter that opened this connection, whether it may speak or not.
    pub(super) fn of(&self, link: LinkId) -> Option<SplitterId> {
        self.links.get(&link).map(|(splitter, _)| *splitter)
    }

    /// The splitter for which this connection speaks.
    pub(super) fn speaking(&self, link: LinkId) -> Option<SplitterId> {
        self.of(link).filter(|splitter| self.get(*splitter).is_some_and(|side| side.intake.link() == Some(link)))
    }

    /// The connection that speaks for a splitter.
    pub(super) fn speaker(&self, splitter: SplitterId) -> Option<&Link> {
        let link = self.get(splitter)?.intake.link()?;
        self.links.get(&link).map(|(_, link)| link)
    }

    /// A connection by its number.
    pub(super) fn link(&self, link: LinkId) -> Option<&Link> {
        self.links.get(&link).map(|(_, link)| link)
    }

    /// Whether a splitter has a session and is connected.
    pub(super) fn is_linked(&self, splitter: SplitterId) -> bool {
        self.get(splitter).is_some_and(|side| side.intake.linked())
    }

    /// Whether a whole batch waits of any.
    pub(super) fn batch_is_full(&self) -> bool {
        self.by_splitter.values().any(|side| side.intake.batch_is_full())
    }

    /// When the first of them wants a tick.
    pub(super) fn due(&self) -> Option<Millis> {
        self.by_splitter.values().filter_map(|side| side.intake.due()).min()
    }
}
