//! Files that `az` printed, from disk or from stdin.
//! Must not interpret them beyond their encoding.
//! Called by the commands that read Azure's answers.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

/// The text of a file, or of stdin for `-`.
///
/// # Errors
/// A line for a person, with the file's name.
pub(super) fn read(file: &Path) -> Result<String, String> {
    let shown = name(file);
    let mut bytes = Vec::new();
    let read = if is_stdin(file) {
        io::stdin().lock().take(LARGEST + 1).read_to_end(&mut bytes)
    } else {
        fs::File::open(file).and_then(|open| open.take(LARGEST + 1).read_to_end(&mut bytes))
    };
    read.map_err(|error| format!("{shown}: {error}"))?;
    if bytes.len() as u64 > LARGEST {
        return Err(format!("{shown}: larger than {} MiB", LARGEST >> 20));
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(format!(
            "{shown}: this is UTF-16, as `>` of Windows PowerShell writes it; use `| Out-File -Encoding utf8 FILE`"
        ));
    }
    String::from_utf8(bytes).map_err(|error| format!("{shown}: {error}"))
}

/// As messages call it.
pub(super) fn name(file: &Path) -> String {
    if is_stdin(file) {
        "stdin".to_owned()
    } else {
        file.display().to_string()
    }
}

fn is_stdin(file: &Path) -> bool {
    file == Path::new("-")
}

/// In bytes; no answer of Azure comes near.
const LARGEST: u64 = 64 << 20;
