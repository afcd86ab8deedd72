//! The bytes of every message, written down: what has been on a wire once stays as it was.

use bytes::Bytes;
use zeo_proto::*;

#[test]
fn print() {
    for (m, t) in client() {
        let mut o = vec![];
        encode(&m, t, &mut o).unwrap();
        println!("{m:?}\n{}", o.iter().map(|b| format!("{b:02x}")).collect::<String>());
    }
}
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}
fn client() -> Vec<(ClientMessage, &'static [u8])> {
    vec![]
}
