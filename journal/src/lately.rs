//! A bounded amount of things that were asked for lately, each under its name.
//!
//! Owns which one goes when there is no room: the one that was asked for longest ago. Opens and reads nothing.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// Things that weigh `MOST` together, or less; they are cheap to clone.
#[derive(Debug)]
pub(crate) struct Lately<K, V, const MOST: usize> {
    by_name: HashMap<K, Entry<V>>,
    /// The names, by when they were asked for.
    by_turn: BTreeMap<u64, K>,
    turn: u64,
    weight: usize,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    weight: usize,
    turn: u64,
}

impl<K, V, const MOST: usize> Default for Lately<K, V, MOST> {
    fn default() -> Self {
        Self { by_name: HashMap::new(), by_turn: BTreeMap::new(), turn: 0, weight: 0 }
    }
}

impl<K: Copy + Eq + Hash, V: Clone, const MOST: usize> Lately<K, V, MOST> {
    /// The one of this name, if it is kept.
    pub(crate) fn find(&mut self, name: K) -> Option<V> {
        self.turn += 1;
        let entry = self.by_name.get_mut(&name)?;
        self.by_turn.remove(&entry.turn);
        self.by_turn.insert(self.turn, name);
        entry.turn = self.turn;
        Some(entry.value.clone())
    }

    /// Keeps one that weighs 1.
    pub(crate) fn keep(&mut self, name: K, value: V) {
        self.keep_weighing(name, value, 1);
    }

    /// Keeps one; where there is no room those that were asked for longest ago go. One that alone weighs too much is
    /// not kept.
    pub(crate) fn keep_weighing(&mut self, name: K, value: V, weight: usize) {
        self.drop_one(name);
        if weight > MOST {
            return;
        }
        while self.weight + weight > MOST
            && let Some((_, oldest)) = self.by_turn.pop_first()
        {
            self.drop_one(oldest);
        }
        self.turn += 1;
        self.by_turn.insert(self.turn, name);
        self.by_name.insert(name, Entry { value, weight, turn: self.turn });
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
