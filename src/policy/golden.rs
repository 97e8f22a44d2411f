//! What stands beside a case of the corpus, and what comes out: where they differ.
//! Must not accept what nobody read: `UPDATE_CORPUS=1` writes what comes out, for a person to read before it is committed.
//! Called by the tests of what reads or writes files of any kind.

use std::fs;
use std::path::Path;

/// What differs from the text in `expected`; no file is no text.
pub(crate) fn compare(expected: &Path, text: &str) -> String {
    if std::env::var_os("UPDATE_CORPUS").is_some() && !text.is_empty() {
        fs::write(expected, text).unwrap();
    }
    let written = fs::read_to_string(expected).unwrap_or_default();
    if written == text {
        return String::new();
    }
    format!("{}: expected\n{written}\nbut it says\n{text}\n", expected.display())
}
