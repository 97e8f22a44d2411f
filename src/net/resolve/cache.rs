//! A bounded map from names to what is known of them. Full, it forgets a name that was not asked for lately.
//! Must not know DNS or time; whether a value is still good is for the resolver to say.
//! Called by the resolver, under its lock.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::name::HostName;

/// At most `capacity` names, each with a value. Everything is O(1), eviction on average (the CLOCK algorithm: a name
/// that was used since the hand last passed gets another round, so a flood of names asked once evicts itself).
#[derive(Debug)]
pub(super) struct Cache<V> {
    capacity: usize,
    places: HashMap<HostName, usize, RandomState>,
    slots: Vec<Slot<V>>,
    hand: usize,
}

#[derive(Debug)]
struct Slot<V> {
    name: HostName,
    value: V,
    used: bool,
}

impl<V: Default> Cache<V> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            places: HashMap::default(),
            slots: Vec::new(),
            hand: 0,
        }
    }

    /// What is known of a name. Counts as use.
    pub(super) fn find(&mut self, name: &HostName) -> Option<&V> {
        let slot = self.slots.get_mut(*self.places.get(name)?)?;
        slot.used = true;
        Some(&slot.value)
    }

    /// The value of a name, made and room made for it if need be. `None` only if the capacity is zero.
    pub(super) fn entry(&mut self, name: &HostName) -> Option<&mut V> {
        let place = match self.places.get(name) {
            Some(place) => *place,
            None => self.make_room(name)?,
        };
        self.slots.get_mut(place).map(|slot| &mut slot.value)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    fn make_room(&mut self, name: &HostName) -> Option<usize> {
        let fresh = Slot {
            name: name.clone(),
            value: V::default(),
            used: false,
        };
        let place = if self.slots.len() < self.capacity {
            self.slots.push(fresh);
            self.slots.len() - 1
        } else {
            let place = self.victim()?;
            let old = std::mem::replace(self.slots.get_mut(place)?, fresh);
            self.places.remove(&old.name);
            place
        };
        self.places.insert(name.clone(), place);
        Some(place)
    }

    /// Moves the hand to the next name that was not used since it passed. Ends after one round at the latest, since
    /// it clears the marks on its way.
    fn victim(&mut self) -> Option<usize> {
        loop {
            let place = self.hand;
            self.hand = (self.hand + 1) % self.slots.len().max(1);
            let slot = self.slots.get_mut(place)?;
            if !std::mem::take(&mut slot.used) {
                return Some(place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> HostName {
        HostName::parse(format!("n{number}.test").as_bytes()).unwrap()
    }

    #[test]
    fn a_flood_of_names_evicts_itself_and_not_what_is_used() {
        let mut cache = Cache::<usize>::new(100);
        for number in 0..100 {
            *cache.entry(&name(number)).unwrap() = number;
        }
        for flood in 0..200_000 {
            if flood % 20 == 0 {
                for used in 0..10 {
                    assert_eq!(cache.find(&name(used)), Some(&used), "after {flood}");
                }
            }
            *cache.entry(&name(1000 + flood)).unwrap() = flood;
        }
        assert_eq!((cache.places.len(), cache.slots.len()), (100, 100));
        assert_eq!(cache.find(&name(50)), None);
        for (name, place) in &cache.places {
            assert_eq!(cache.slots[*place].name, *name);
        }
    }

    #[test]
    fn the_value_of_a_known_name_is_kept() {
        let mut cache = Cache::<usize>::new(2);
        *cache.entry(&name(1)).unwrap() = 7;
        assert_eq!(cache.entry(&name(1)), Some(&mut 7));
        assert_eq!(cache.slots.len(), 1);
    }

    #[test]
    fn without_capacity_nothing_is_kept() {
        let mut cache = Cache::<usize>::new(0);
        assert_eq!(cache.entry(&name(1)), None);
        assert_eq!(cache.find(&name(1)), None);
    }
}
