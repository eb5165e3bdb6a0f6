//! A bounded amount of things that were asked for lately, each under its name.
//!
//! Owns which one goes when there is no room: of those that were not asked for since they were looked at last, the one that
//! has been there for longest. So that asking, which is done for every read, changes no order. Opens and reads nothing.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// Things that weigh `MOST` together, or less; they are cheap to clone.
#[derive(Debug)]
pub(crate) struct Lately<K, V, const MOST: usize> {
    by_name: HashMap<K, Entry<V>>,
    /// The names, in the order in which they are looked at when there is no room.
    by_turn: BTreeMap<u64, K>,
    turn: u64,
    weight: usize,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    weight: usize,
    turn: u64,
    /// It was asked for since it was looked at last.
    asked: bool,
}

impl<K, V, const MOST: usize> Default for Lately<K, V, MOST> {
    fn default() -> Self {
        Self { by_name: HashMap::new(), by_turn: BTreeMap::new(), turn: 0, weight: 0 }
    }
}

impl<K: Copy + Eq + Hash, V: Clone, const MOST: usize> Lately<K, V, MOST> {
    /// The one of this name, if it is kept.
    pub(crate) fn find(&mut self, name: K) -> Option<V> {
        let entry = self.by_name.get_mut(&name)?;
        entry.asked = true;
        Some(entry.value.clone())
    }

    /// Keeps one that weighs 1.
    pub(crate) fn keep(&mut self, name: K, value: V) {
        self.keep_weighing(name, value, 1);
    }

    /// Keeps one; where there is no room others go. One that alone weighs too much is not kept.
    pub(crate) fn keep_weighing(&mut self, name: K, value: V, weight: usize) {
        self.drop_one(name);
        if weight > MOST {
            return;
        }
        while self.weight + weight > MOST
            && let Some((_, next)) = self.by_turn.pop_first()
        {
            match self.by_name.get_mut(&next) {
                Some(entry) if entry.asked => {
                    self.turn += 1;
                    (entry.asked, entry.turn) = (false, self.turn);
                    self.by_turn.insert(self.turn, next);
                }
                Some(_) | None => self.drop_one(next),
            }
        }
        self.turn += 1;
        self.by_turn.insert(self.turn, name);
        self.by_name.insert(name, Entry { value, weight, turn: self.turn, asked: false });
        self.weight += weight;
    }

    /// Lets go of one.
    pub(crate) fn drop_one(&mut self, name: K) {
        if let Some(entry) = self.by_name.remove(&name) {
            self.by_turn.remove(&entry.turn);
            self.weight -= entry.weight;
        }
    }
}

#[cfg(test)]
mod tests;
