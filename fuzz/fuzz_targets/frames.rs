//! A client's bytes → frames → every view: no panic, and the frames tile the stream.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shardway::wire::postgres::frame;
use shardway::wire::postgres::frontend;

const LIMIT: usize = 1 << 16;

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    while let Ok(Some(frame)) = frame::cut(rest, LIMIT) {
        assert_eq!(frame.bytes.len(), frame.body.len() + frame::HEADER);
        let _ = frontend::Query::read(frame.body);
        let _ = frontend::Parse::read(frame.body).map(|it| it.types().count());
        let _ = frontend::Target::read(frame.body);
        let _ = frontend::Execute::read(frame.body);
        let _ = frontend::SaslInitial::read(frame.body);
        let _ = frontend::password(frame.body);
        let mut renamed = Vec::new();
        if frontend::with_statement(&mut renamed, &frame, b"other").is_ok() {
            let again = frame::cut(&renamed, LIMIT + 16).expect("well-formed").expect("whole");
            assert_eq!(again.bytes.len(), renamed.len());
        }
        rest = &rest[frame.bytes.len()..];
    }
});
