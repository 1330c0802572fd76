//! A server's bytes in two pieces: the scanner sees the same as in one, and every view survives.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shardway::wire::postgres::backend;
use shardway::wire::postgres::frame::Scan;

fn scan(pieces: &[&[u8]]) -> (Vec<(u8, usize)>, bool) {
    let (mut scan, mut held, mut seen) = (Scan::forwarding(), Vec::new(), Vec::new());
    for piece in pieces {
        held.extend_from_slice(piece);
        let mut at = 0;
        loop {
            match scan.next(&held, &mut at) {
                Ok(Some(it)) => {
                    seen.push((it.kind, it.length));
                    let Some(body) = it.body else { continue };
                    let _ = backend::Report::read(body).map(|it| it.fields().count());
                    let _ = backend::RowDescription::read(body).map(|it| it.columns().count());
                    let _ = backend::DataRow::read(body).map(|it| it.cells().count());
                    let _ = backend::Authentication::read(body);
                    let _ = backend::parameter(body);
                    let _ = backend::cancel_key(body);
                    let _ = backend::CopyResponse::read(body);
                    let _ = backend::Notification::read(body);
                    let _ = backend::parameter_types(body).map(Iterator::count);
                    let _ = backend::tag(body).map(backend::tag_rows);
                }
                Ok(None) => break,
                Err(_) => return (seen, true),
            }
        }
        held.drain(..at);
    }
    (seen, false)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&place, bytes)) = bytes.split_first() else { return };
    let (one, other) = bytes.split_at(usize::from(place).min(bytes.len()));
    assert_eq!(scan(&[bytes]), scan(&[one, other]));
});
