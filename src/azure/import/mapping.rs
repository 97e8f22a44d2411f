//! `--sources`: which range, IP group or group of pods of Azure's is which workload here, as a person writes it.
//! Must not know rules.
//! Called by the command line, and by import for each source.

use std::fmt;
use std::str::FromStr;

use super::ranges::{looks_like_address, ranges};
use crate::policy::document::syntax;

/// One `SOURCE=WORKLOAD`: a range of Azure's, or the name of an IP group or of a group of pods, and who it is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    pub source: String,
    pub workload: String,
}

impl Mapping {
    /// Reads `SOURCE=WORKLOAD,...`; an item without `=` is one more workload for the source before it.
    ///
    /// # Errors
    /// What is wrong, for a person.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, String> {
        let mut all: Vec<Self> = Vec::new();
        for item in text.split(',') {
            let (source, workload) = match item.split_once('=') {
                Some((source, workload)) => (source.trim().to_owned(), workload.trim()),
                None => match all.last() {
                    Some(last) => (last.source.clone(), item.trim()),
                    None => return Err(format!("`{item}` has no `=`: write 10.224.0.0/16=nodes")),
                },
            };
            if source.is_empty() {
                return Err(format!(
                    "`{item}` has no source before the `=`: write 10.224.0.0/16=nodes"
                ));
            }
            if !syntax::is_dns_label(workload) || workload == "konnectivity" {
                return Err(format!(
                    "`{workload}` cannot be the name of a workload: lower-case letters, digits and `-`"
                ));
            }
            if looks_like_address(&source) {
                ranges(&source).map_err(|why| format!("`{source}` {why}"))?;
            }
            all.push(Self {
                source,
                workload: workload.to_owned(),
            });
        }
        Ok(all)
    }
}

impl FromStr for Mapping {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match Self::parse_list(text)?.as_slice() {
            [one] => Ok(one.clone()),
            _ => Err("one source and one workload: 10.224.0.0/16=nodes".to_owned()),
        }
    }
}

impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.source, self.workload)
    }
}
