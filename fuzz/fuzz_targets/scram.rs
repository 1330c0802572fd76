//! Both messages of a client that proves itself, and both of a server: nobody gets in by accident.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shardway::wire::postgres::scram;
use shardway::wire::postgres::scram::Pepper;

fuzz_target!(|bytes: &[u8]| {
    let Some((&place, bytes)) = bytes.split_first() else { return };
    let (first, second) = bytes.split_at(usize::from(place).min(bytes.len()));
    let verifier = Pepper::new([1; 32]).nobody(b"ann");
    if let Ok((_, waiting)) = scram::Server::new(None).first(scram::PLAIN.as_bytes(), first, &verifier) {
        assert!(waiting.finish(second).is_err());
    }
    let mut client = scram::Client::choose(&[scram::PLAIN.as_bytes()], None, "geheim").expect("it is offered");
    assert!(client.answer(first).is_err());
    assert!(client.finish(second).is_err());
});
