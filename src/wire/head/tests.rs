//! First checks of the head reader.

use super::*;

fn read(form: Form, text: &str) -> Progress<RequestHead, HeadReject> {
    HeadReader::new(form).advance(text.as_bytes())
}

#[test]
fn connect_is_read() {
    let Progress::Value(head) = read(
        Form::Proxy,
        "CONNECT API.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\nrest",
    ) else {
        panic!("refused");
    };
    assert_eq!(head.host.unwrap().to_string(), "api.test:443");
    assert_eq!(head.len, 53);
}

#[test]
fn absolute_form_is_read() {
    let Progress::Value(head) = read(
        Form::Proxy,
        "POST http://api.test/x HTTP/1.1\r\nHost: api.test\r\nContent-Length: 5\r\n\r\n",
    ) else {
        panic!("refused");
    };
    assert_eq!(head.framing, Framing::Length(5));
}
