//! A list that nearly always has one item, which then stands in place: the destinations of a rule.
//! Must not change once it is made; it is read as a slice. A hundred thousand lists on the heap would leave as many holes.
//! Called by the readers of rules and by the compiler, which make them, and by everyone who reads a rule.

use std::ops::Deref;
use std::slice;

/// Any number of items.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Few<T>(Held<T>);

/// One is never held as many, so that equal lists are equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Held<T> {
    One(T),
    Many(Box<[T]>),
}

impl<T> Few<T> {
    pub fn map<U>(self, mut change: impl FnMut(T) -> U) -> Few<U> {
        Few(match self.0 {
            Held::One(one) => Held::One(change(one)),
            Held::Many(many) => Held::Many(many.into_iter().map(change).collect()),
        })
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.0 {
            Held::One(one) => slice::from_ref(one),
            Held::Many(many) => many,
        }
    }
}

impl<T> From<T> for Few<T> {
    fn from(one: T) -> Self {
        Self(Held::One(one))
    }
}

impl<T> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(all: I) -> Self {
        let mut all = all.into_iter();
        match (all.next(), all.next()) {
            (Some(one), None) => one.into(),
            (first, second) => Self(Held::Many(first.into_iter().chain(second).chain(all).collect())),
        }
    }
}

impl<'a, T> IntoIterator for &'a Few<T> {
    type Item = &'a T;
    type IntoIter = slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_one_and_many_read_alike() {
        for count in 0..4 {
            let held: Few<u8> = (0..count).collect();
            assert!(held.into_iter().copied().eq(0..count));
            assert_eq!(held.clone().map(|item| item + 1), (1..=count).collect());
        }
    }
}
