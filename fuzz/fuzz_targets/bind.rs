//! A Bind's body: what the view reads, built again, is the body.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shardway::wire::postgres::frontend;

fn codes(bytes: &[u8]) -> Vec<i16> {
    bytes.as_chunks::<2>().0.iter().map(|it| i16::from_be_bytes(*it)).collect()
}

fuzz_target!(|body: &[u8]| {
    let Ok(it) = frontend::Bind::read(body) else { return };
    let values: Vec<_> = it.values().collect();
    assert_eq!(values.len(), it.count());
    let (formats, results) = (codes(it.formats.bytes()), codes(it.results.bytes()));
    let mut again = Vec::new();
    frontend::bind(&mut again, it.portal, it.statement, &formats, &values, &results).expect("it came from a body");
    assert_eq!(&again[5..], body);
});
