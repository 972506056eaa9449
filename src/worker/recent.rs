//! The newest of something: what is older than so many is forgotten. Pure.

use std::borrow::Borrow;
use std::collections::{HashSet, VecDeque};
use std::hash::Hash;

/// The newest `KEEP` of them.
pub(super) struct Recent<T, const KEEP: usize> {
    all: HashSet<T>,
    order: VecDeque<T>,
}

impl<T, const KEEP: usize> Default for Recent<T, KEEP> {
    fn default() -> Self {
        Recent { all: HashSet::new(), order: VecDeque::new() }
    }
}

impl<T: Clone + Eq + Hash, const KEEP: usize> Recent<T, KEEP> {
    /// One that is there keeps its place.
    pub(super) fn add(&mut self, one: T) {
        if self.all.insert(one.clone()) {
            self.order.push_back(one);
        }
        if self.order.len() > KEEP
            && let Some(oldest) = self.order.pop_front()
        {
            self.all.remove(&oldest);
        }
    }

    pub(super) fn contains<Q: Eq + Hash + ?Sized>(&self, one: &Q) -> bool
    where
        T: Borrow<Q>,
    {
        self.all.contains(one)
    }

    pub(super) fn remove<Q: Eq + Hash + ?Sized>(&mut self, one: &Q)
    where
        T: Borrow<Q>,
    {
        if self.all.remove(one) {
            self.order.retain(|other| other.borrow() != one);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten_first_and_what_is_removed_makes_room() {
        let mut recent = Recent::<String, 3>::default();
        let add =
            |recent: &mut Recent<_, 3>, names: &[&str]| names.iter().for_each(|name| recent.add((*name).to_owned()));
        let left = |recent: &Recent<String, 3>| ["a", "b", "c", "d", "e"].map(|name| recent.contains(name));
        add(&mut recent, &["a", "b", "c", "a", "d"]);
        assert_eq!(left(&recent), [false, true, true, true, false]);
        recent.remove("c");
        recent.remove("a");
        add(&mut recent, &["e"]);
        assert_eq!(left(&recent), [false, true, false, true, true]);
        assert_eq!(recent.order.len(), 3);
    }
}
