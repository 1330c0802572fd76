//! A connection's first bytes, in every situation.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use shardway::session::login::Situation;
use shardway::session::login::open;

fuzz_target!(|bytes: &[u8]| {
    let Some((&bits, bytes)) = bytes.split_first() else { return };
    let situation = Situation {
        tls_offered: bits & 1 != 0,
        tls_required: bits & 2 != 0,
        in_tls: bits & 4 != 0,
        tls_asked: bits & 8 != 0,
        gss_asked: bits & 16 != 0,
    };
    let mut held = BytesMut::from(bytes);
    let _ = open(&mut held, situation);
    assert!(bytes.ends_with(&held));
});
