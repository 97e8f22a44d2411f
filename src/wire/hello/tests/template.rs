//! Bytes of hellos as `tests/corpus/hello.yaml` writes them, and how they are cut into TLS records.
//! Must not depend on the crate: the fuzz targets make their seeds with it too.
//! Called by the tests of the hello reader.

/// Cuts a handshake message into records; the last size serves for all that is left.
pub(super) fn in_records(message: &[u8], sizes: &[usize]) -> Vec<u8> {
    let mut sent = Vec::new();
    let mut rest = message;
    let mut sizes = sizes.iter().copied();
    let mut size = 1 << 14;
    while !rest.is_empty() {
        size = sizes.next().unwrap_or(size).min(1 << 14);
        let (record, behind) = rest.split_at(size.min(rest.len()));
        sent.extend([0x16, 3, 1]);
        sent.extend(u16::try_from(record.len()).unwrap().to_be_bytes());
        sent.extend(record);
        rest = behind;
    }
    sent
}

/// Bytes as the table writes them.
pub(super) fn build(template: &str) -> Vec<u8> {
    let text = template.replace("$start", START).replace("$sni", SNI);
    let mut out = Vec::new();
    assert_eq!(build_into(text.trim_start(), &mut out), "", "{template}");
    out
}

/// Reads items until the text or its bracket ends; what follows them.
fn build_into<'a>(mut text: &'a str, out: &mut Vec<u8>) -> &'a str {
    while !text.is_empty() && !text.starts_with('}') {
        let mut item = Vec::new();
        if let Some(inner) = text.strip_prefix('{') {
            let (size, inner) = inner.split_once(':').unwrap();
            let mut vector = Vec::new();
            text = build_into(inner.trim_start(), &mut vector).strip_prefix('}').unwrap();
            let length = u32::try_from(vector.len()).unwrap().to_be_bytes();
            item.extend(&length[length.len() - size.parse::<usize>().unwrap()..]);
            item.append(&mut vector);
        } else if let Some(quoted) = text.strip_prefix('\'') {
            let (quoted, rest) = quoted.split_once('\'').unwrap();
            item.extend(quoted.as_bytes());
            text = rest;
        } else {
            let (byte, rest) = text.split_at(2);
            item.push(u8::from_str_radix(byte, 16).unwrap());
            text = rest;
        }
        if let Some(rest) = text.strip_prefix('*') {
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            item = item.repeat(rest[..end].parse().unwrap());
            text = &rest[end..];
        }
        out.append(&mut item);
        text = text.trim_start();
    }
    text
}

const START: &str = "0303 00*32 {1: 00*32} {2: 1301 1302} {1: 00}";
const SNI: &str = "0000 {2: {2: 00 {2: 'api.allowed.test'}}}";
