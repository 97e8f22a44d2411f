//! A number for the contents of a set of policy files, the same in every replica and every version.
//! Must not be used against forgery, nor take in names of files: it tells apart what honest replicas were given.
//! Called by the compiler; the metrics show it.

use std::sync::Arc;

use super::problem::SourceText;

/// At most 48 bits, so that a gauge, which is an f64, holds it exactly. FNV-1a over each text and its length.
/// Presets count with their names, which policies refer to.
pub(super) fn fingerprint<'t>(
    policies: &'t [SourceText],
    presets: impl Iterator<Item = (u32, &'t Arc<str>, &'t SourceText)>,
) -> u64 {
    let presets = presets.flat_map(|(_, name, text)| [&**name, &*text.text]);
    let texts = policies.iter().map(|policy| &*policy.text).chain(presets);
    let bytes = texts.flat_map(|text| {
        let length = (text.len() as u64).to_le_bytes();
        text.bytes().chain(length)
    });
    let hash = bytes.fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    // Folded as its authors say, rather than cut.
    (hash >> BITS) ^ (hash & ((1 << BITS) - 1))
}

const BITS: u32 = 48;
const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers are written down: replicas of different versions have to agree on them.
    #[test]
    fn the_same_texts_are_the_same_number_for_ever() {
        assert_eq!(of(&[]), 0x9ce4_8422_e8d7);
        assert_eq!(of(&["allow: []\n"]), 278_795_212_697_794);
    }

    #[test]
    fn other_texts_are_other_numbers() {
        let sets: [&[&str]; 7] = [
            &[],
            &[""],
            &["allow: []\n"],
            &["allow: []"],
            &["allow: []\n", ""],
            &["", "allow: []\n"],
            &["allow:", " []\n"],
        ];
        for (place, set) in sets.iter().enumerate() {
            assert!(of(set) < 1 << BITS);
            for other in &sets[..place] {
                assert_ne!(of(set), of(other), "{set:?} {other:?}");
            }
        }
    }

    #[test]
    fn names_do_not_count() {
        let named = |name: &str| {
            fingerprint(
                &[SourceText {
                    name: name.into(),
                    text: "allow: []\n".into(),
                }],
                std::iter::empty(),
            )
        };
        assert_eq!(named("a.yaml"), named("/etc/b.yaml"));
    }

    fn of(texts: &[&str]) -> u64 {
        let texts = texts.iter().map(|text| SourceText {
            name: "policy.yaml".into(),
            text: (*text).into(),
        });
        fingerprint(&texts.collect::<Vec<_>>(), std::iter::empty())
    }
}
