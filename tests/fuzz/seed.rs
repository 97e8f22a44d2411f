//! Writes the seeds of every target: the tables of `tests/corpus` and the captured hellos, a file for each.
//! Must not make anything up; what is worth a seed is worth a row in a table.
//! Called by hand before a run: `cargo run --no-default-features --bin seed`, in this folder.

#[path = "../../src/wire/hello/tests/template.rs"]
mod template;

use std::fs;
use std::path::Path;

use serde::Deserialize;

#[derive(Deserialize)]
struct Row {
    id: String,
    ext: Option<String>,
    message: Option<String>,
    bytes: Option<String>,
    records: Option<Vec<usize>>,
    connect: Option<String>,
    raw: Option<String>,
    get: Option<String>,
    send: Option<String>,
    fill: Option<(String, usize)>,
}

fn main() {
    for row in rows("hello.yaml") {
        let message = match (&row.ext, &row.message) {
            (Some(ext), _) => template::build(&format!("01 {{3: $start {{2: {ext}}}}}")),
            (_, Some(message)) => template::build(message),
            _ => {
                write("hello", &row.id, &template::build(&row.bytes.unwrap_or_default()));
                continue;
            }
        };
        let records = row.records.unwrap_or(vec![1 << 14]);
        write("hello", &row.id, &template::in_records(&message, &records));
    }
    for file in fs::read_dir(corpus("hello")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "bin") {
            let name = path.file_stem().unwrap().to_str().unwrap();
            write("hello", name, &fs::read(&path).unwrap());
        }
    }
    for row in rows("head.yaml") {
        let text = match (&row.connect, &row.get) {
            (Some(target), _) => format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"),
            (_, Some(target)) => format!("GET {target} HTTP/1.1\r\nHost: plain.allowed.test\r\n\r\n"),
            _ => row.send.unwrap_or_default(),
        };
        let text = match &row.fill {
            Some((fill, times)) => text.replace('@', &fill.repeat(*times.min(&200))),
            None => text,
        };
        write("head", &row.id, &latin(&text));
    }
    for row in rows("body.yaml") {
        write("body", &row.id, &latin(&row.send.unwrap_or_default()));
    }
    for (number, row) in rows("host.yaml").into_iter().enumerate() {
        let bytes = match (row.connect, row.raw) {
            (Some(text), _) => text.into_bytes(),
            (_, raw) => latin(&raw.unwrap_or_default()),
        };
        write("authority", &format!("{}-{number}", row.id), &bytes);
    }
}

fn rows(file: &str) -> Vec<Row> {
    serde_saphyr::from_str(&fs::read_to_string(corpus(file)).unwrap()).unwrap()
}

fn write(target: &str, id: &str, bytes: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(id), bytes).unwrap();
}

fn corpus(file: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(file)
}

fn latin(text: &str) -> Vec<u8> {
    text.chars().map(|byte| u8::try_from(byte).unwrap()).collect()
}
