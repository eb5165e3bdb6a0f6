//! A bounded number of things that were asked for lately, each under its name.
//!
//! Owns which one goes when there is no room: the one that was asked for longest ago. Opens and reads nothing.

use std::collections::HashMap;
use std::hash::Hash;

/// At most `MOST` things; they are cheap to clone.
#[derive(Debug)]
pub(crate) struct Lately<K, V, const MOST: usize> {
    by_name: HashMap<K, (u64, V)>,
    asked: u64,
}

impl<K, V, const MOST: usize> Default for Lately<K, V, MOST> {
    fn default() -> Self {
        Self { by_name: HashMap::new(), asked: 0 }
    }
}

impl<K: Copy + Eq + Hash, V: Clone, const MOST: usize> Lately<K, V, MOST> {
    /// The one of this name, if it is kept.
    pub(crate) fn find(&mut self, name: K) -> Option<V> {
        self.asked += 1;
        let (asked, value) = self.by_name.get_mut(&name)?;
        *asked = self.asked;
        Some(value.clone())
    }

    /// Keeps one; where there is no room the one that was asked for longest ago goes.
    pub(crate) fn keep(&mut self, name: K, value: V) {
        if self.by_name.len() >= MOST
            && let Some(oldest) = self.by_name.iter().min_by_key(|(_, (asked, _))| *asked).map(|(name, _)| *name)
        {
            self.by_name.remove(&oldest);
        }
        self.by_name.insert(name, (self.asked, value));
    }

    /// Lets go of one.
    pub(crate) fn drop_one(&mut self, name: K) {
        self.by_name.remove(&name);
    }
}

#[cfg(test)]
mod tests;
