//! Bytes → MySQL's packets → every view: no panic, and the packets tile the stream.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shardway::wire::mysql::command::Command;
use shardway::wire::mysql::frame;
use shardway::wire::mysql::frame::Joiner;
use shardway::wire::mysql::handshake;
use shardway::wire::mysql::kind;
use shardway::wire::mysql::result;

const LIMIT: usize = 1 << 16;
const KINDS: [u8; 3] = [kind::LONG, kind::VAR_STRING, kind::DATETIME];

fuzz_target!(|bytes: &[u8]| {
    let mut joiner = Joiner::new(LIMIT);
    let mut rest = bytes;
    while let Ok(Some((used, payload))) = joiner.take(rest) {
        assert_eq!(frame::packet(rest).expect("it is whole").body.end, used);
        rest = &rest[used..];
        let Some(payload) = payload else { continue };
        let payload = payload.bytes();
        for capabilities in [0, u32::MAX] {
            if let Ok(Command::Execute(it)) = Command::read(payload, capabilities) {
                let _ = it.parameters(3, None, |place| place == 1);
            }
            let _ = handshake::change_user(payload, capabilities);
            if let Ok(result::First::Done(done)) = result::First::read(payload, capabilities) {
                let _ = done.changes();
            }
        }
        let _ = handshake::Greeting::read(payload).map(|it| it.payload());
        let _ = handshake::Switch::read(payload).map(|it| it.payload());
        if let Ok(it) = handshake::Response::read(payload) {
            assert_eq!(handshake::Response::read(&it.payload()).as_ref(), Ok(&it));
        }
        let _ = result::Failure::read(payload).map(|it| it.payload());
        if let Ok(it) = result::Column::read(payload) {
            assert_eq!(result::Column::read(&it.payload()).as_ref(), Ok(&it));
        }
        let _ = result::text_row(payload, 3);
        let _ = result::binary_row(payload, &KINDS);
    }
});
