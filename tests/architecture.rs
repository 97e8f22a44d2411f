//! The rules of the layout that no compiler checks: arrows run downwards only, and below the line the code is pure.
//! Must not know what the modules do; it reads their text. Each rule is also shown a sample that breaks it.
//! Called by every test run.

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn the_tree_follows_its_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "tests", "benches"] {
        rust_files(&root.join(folder), &mut files);
    }
    let mut broken = Vec::new();
    for path in &files {
        let name = path.strip_prefix(root).unwrap().to_str().unwrap();
        let text = fs::read_to_string(path).unwrap();
        if !has_header(&text) {
            broken.push(format!("{name}: the header is not three lines of `//!`"));
        }
        if !is_test_module(path) {
            broken.extend(violations(name, &text));
        }
    }
    assert!(files.len() > 30, "only {} files were found", files.len());
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn every_module_has_its_place() {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let declared = lib
        .lines()
        .filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'));
    let strangers: Vec<_> = declared.filter(|module| !ORDER.contains(module)).collect();
    assert!(strangers.is_empty(), "modules without a place in ORDER: {strangers:?}");
    assert!(lib.contains("#![forbid(unsafe_code)]"));
}

#[test]
fn direct_dependencies_are_chosen() {
    for manifest in [
        "Cargo.toml",
        "benches/instructions/Cargo.toml",
        "benches/lab/Cargo.toml",
    ] {
        let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(manifest)).unwrap();
        for line in manifest.lines() {
            let name = line.split([' ', '=', '.']).next().unwrap_or_default();
            assert!(!NOT_DIRECT.contains(&name), "{name} may only arrive through others");
        }
    }
}

#[test]
fn each_rule_can_be_broken() {
    let header = "//! One.\n//! Two.\n//! Three.\n";
    for (file, body, expected) in [
        (
            "src/name/host.rs",
            "use crate::policy::Rule;",
            "name may not use policy",
        ),
        ("src/name.rs", "use super::policy;", "name may not use policy"),
        (
            "src/policy/gate.rs",
            "use crate::{name::Host, proxy::Session};",
            "policy may not use proxy",
        ),
        ("src/relay.rs", "fn a(b: crate::cli::Run) {}", "relay may not use cli"),
        ("src/wire/head.rs", "use super::super::app::App;", "super::super"),
        ("src/net.rs", "use crate::stranger::X;", "net may not use stranger"),
        (
            "src/wire/hello.rs",
            "use tokio::io::AsyncRead;",
            "pure code may not name tokio",
        ),
        (
            "src/policy/load.rs",
            "let text = std::fs::read(path);",
            "pure code may not name std::fs",
        ),
        (
            "src/policy/load.rs",
            "let now = Timestamp::now();",
            "pure code may not name Timestamp::now",
        ),
        (
            "src/address.rs",
            "tracing::info!(\"x\");",
            "pure code may not name tracing",
        ),
        ("src/name.rs", "println!(\"x\");", "pure code may not name println!"),
        (
            "src/name.rs",
            "metrics::counter!(\"x\");",
            "pure code may not name metrics::",
        ),
        (
            "src/name.rs",
            "use std::time::{Duration, Instant};",
            "pure code may not name Instant",
        ),
        ("src/net.rs", &"\n".repeat(500), "lines"),
    ] {
        let found = violations(file, &format!("{header}{body}\n"));
        assert!(
            found.iter().any(|line| line.contains(expected)),
            "{file} {body}: {found:?}"
        );
    }
    assert!(has_header(header));
    assert!(!has_header("//! One.\n//! Two.\n\nuse std::fs;\n"));
}

#[test]
fn what_is_right_passes() {
    let text = "//! One.\n//! Two uses tokio and crate::cli.\n//! Three.\n\nuse crate::policy::Reason;\nuse crate::{\n    \
                name::{Host, Port},\n    address,\n};\n// crate::cli, Instant\n\n#[cfg(test)]\nmod tests {\n    use crate::cli;\n}\n";
    assert_eq!(violations("src/wire/head.rs", text), Vec::<String>::new());
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    assert!(is_test_module(&src.join("wire/tests.rs")) && !is_test_module(&src.join("wire/head.rs")));
}

/// Whether a file begins with three lines: what it contributes, what it must not do, who calls it.
fn has_header(text: &str) -> bool {
    let header = text.lines().take_while(|line| line.starts_with("//!"));
    header.filter(|line| line.len() > "//! ".len()).count() >= 3
}

/// Whether a file is, or lies below, a module that its parent declares for tests only. Such a module may use anything,
/// and be long, as one at the end of a file may.
fn is_test_module(path: &Path) -> bool {
    path.ancestors().any(|module| {
        let (Some(name), Some(parent)) = (module.file_stem().and_then(|name| name.to_str()), module.parent()) else {
            return false;
        };
        let declared = fs::read_to_string(parent.with_extension("rs")).unwrap_or_default();
        ["mod", "pub(crate) mod"]
            .iter()
            .any(|word| declared.contains(&format!("#[cfg(test)]\n{word} {name};")))
    })
}

/// What is wrong with one file; `name` is its path from the package's root.
fn violations(name: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    // A `tests.rs` is the same in a file of its own: oracles may need sockets and clocks.
    let lines = code.lines().count();
    if lines > MAX_LINES {
        found.push(format!(
            "{name}: {lines} lines without its tests; over {MAX_LINES} it is two things"
        ));
    }
    let Some(module) = name.strip_prefix("src/") else {
        return found;
    };
    let module = module.split(['/', '.']).next().unwrap_or_default();
    let Some(place) = ORDER.iter().position(|other| *other == module) else {
        return found;
    };
    let code: String = code
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n");
    if code.contains("super::super::") {
        found.push(format!("{name}: write crate:: instead of super::super::"));
    }
    for used in uses(&code, name.matches('/').count() == 1) {
        let allowed = ORDER
            .iter()
            .position(|other| *other == used)
            .is_some_and(|other| other >= place);
        if !allowed {
            found.push(format!("{name}: {module} may not use {used}"));
        }
    }
    if ORDER[place + 1..].contains(&FIRST_PURE) {
        return found;
    }
    for word in IMPURE.iter().filter(|word| names(&code, word)) {
        found.push(format!("{name}: pure code may not name {word}"));
    }
    found
}

/// The top-level modules that the code names.
fn uses(code: &str, top_level: bool) -> Vec<&str> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => found.extend(first_segments(group)),
            None => found.push(word(rest)),
        }
    }
    if top_level {
        let supers = code
            .match_indices("super::")
            .map(|(at, _)| word(&code[at + "super::".len()..]));
        found.extend(supers.filter(|used| ORDER.contains(used)));
    }
    // Items of the crate's root itself (none today) begin with a capital letter or are macros.
    found.retain(|used| used.starts_with(|first: char| first.is_ascii_lowercase()));
    found
}

/// The first path segment of each entry of a `{...}` group, up to its closing brace.
fn first_segments(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0_usize, 0, Vec::new());
    for (at, byte) in group.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' | b',' if depth == 0 => {
                found.push(word(group[start..at].trim_start()));
                start = at + 1;
                if byte == b'}' {
                    break;
                }
            }
            b'}' => depth -= 1,
            _ => {}
        }
    }
    found.retain(|used| !used.is_empty());
    found
}

fn word(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    &text[..end.unwrap_or(text.len())]
}

/// Whether `word` stands in the code as a word of its own.
fn names(code: &str, word: &str) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let open_ended = !word.ends_with(part);
    code.match_indices(word)
        .any(|(at, _)| !code[..at].ends_with(part) && (open_ended || !code[at + word.len()..].starts_with(part)))
}

#[expect(clippy::unwrap_used, reason = "a tree that cannot be read fails the test")]
fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Every module, top to bottom: it may use those after it and no other.
const ORDER: &[&str] = &[
    "cli",
    "app",
    "verify",
    "admin",
    "proxy",
    "relay",
    "net",
    "telemetry",
    "settings",
    "source",
    "state",
    "kubernetes",
    "history",
    "azure",
    "wire",
    "policy",
    "address",
    "name",
    "criterion",
];
/// From here down: no tokio, no files, no logs, no clock.
const FIRST_PURE: &str = "kubernetes";
const IMPURE: &[&str] = &[
    "tokio",
    "std::fs",
    "std::io",
    "std::env",
    "std::process",
    "std::thread",
    "Instant",
    "SystemTime",
    "Timestamp::now",
    "Zoned::now",
    "tracing",
    "metrics::",
    "println!",
    "eprintln!",
    "TcpStream",
    "UdpSocket",
    "socket2",
    "rustix",
];
/// Crates that come with others and have nothing to do in our own code (the standard library has two of them).
const NOT_DIRECT: &[&str] = &["url", "lazy_static", "once_cell"];
const MAX_LINES: usize = 500;
