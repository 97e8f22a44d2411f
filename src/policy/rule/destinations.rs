//! The destinations of one rule, in the rule itself where there is only one.
//! Must not judge; it is read as a slice. Of a hundred thousand rules nearly all have one destination.
//! Called by the compiler, which makes them, and by everyone who reads a rule.

use std::ops::Deref;
use std::slice;

use super::Destination;

/// Any number of destinations, which do not change any more.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Destinations(Held);

/// One is never held as many, so that equal destinations are equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Held {
    One(Destination),
    Many(Box<[Destination]>),
}

impl Deref for Destinations {
    type Target = [Destination];

    fn deref(&self) -> &[Destination] {
        match &self.0 {
            Held::One(one) => slice::from_ref(one),
            Held::Many(many) => many,
        }
    }
}

impl From<Destination> for Destinations {
    fn from(one: Destination) -> Self {
        Self(Held::One(one))
    }
}

impl FromIterator<Destination> for Destinations {
    fn from_iter<I: IntoIterator<Item = Destination>>(all: I) -> Self {
        let mut all = all.into_iter();
        match (all.next(), all.next()) {
            (Some(one), None) => one.into(),
            (first, second) => Self(Held::Many(first.into_iter().chain(second).chain(all).collect())),
        }
    }
}

impl<'a> IntoIterator for &'a Destinations {
    type Item = &'a Destination;
    type IntoIter = slice::Iter<'a, Destination>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::document::destination::{Role, parse};

    #[test]
    fn none_one_and_many_read_alike() {
        for count in 0..4 {
            let all: Vec<_> = (0..count)
                .map(|number| parse(&format!("host{number}.test"), Role::Allow).unwrap())
                .collect();
            let held: Destinations = all.iter().cloned().collect();
            assert_eq!(&*held, all);
            assert!(held.into_iter().eq(&all));
        }
    }
}
