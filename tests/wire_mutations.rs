//! Hundreds of thousands of bent messages, the same ones in every run: nothing panics, no two readings of the same
//! bytes differ, and nobody waits for more than a limit allows.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop where it stands")]

#[path = "wire_mutations/mysql.rs"]
mod mysql;

use std::sync::Arc;
use std::time::Duration;

use shardway::backend::connection::login as server_login;
use shardway::clock;
use shardway::net::Stream;
use shardway::session::login::Arrival;
use shardway::session::login::Entrance;
use shardway::session::login::Situation;
use shardway::session::login::Verifiers;
use shardway::session::login::login;
use shardway::session::login::open;
use shardway::shard_map::Secret;
use shardway::shard_map::UserAuth;
use shardway::wire::postgres::Violation;
use shardway::wire::postgres::backend;
use shardway::wire::postgres::backend::Column;
use shardway::wire::postgres::backend::Severity;
use shardway::wire::postgres::frame;
use shardway::wire::postgres::frame::Frame;
use shardway::wire::postgres::frame::Kinds;
use shardway::wire::postgres::frame::Scan;
use shardway::wire::postgres::frontend;
use shardway::wire::postgres::frontend::Startup;
use shardway::wire::postgres::frontend::Target;
use shardway::wire::postgres::scram;
use shardway::wire::postgres::scram::Pepper;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;

const ROUNDS: u64 = 300_000;
const LIMIT: usize = 4096;

/// Chance that repeats itself (SplitMix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut it = self.0;
        it = (it ^ it >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        it = (it ^ it >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        it ^ it >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }

    fn byte(&mut self) -> u8 {
        const EDGES: [u8; 8] = [0, 1, 4, 5, 0x7f, 0x80, 0xfe, 0xff];
        match self.below(3) {
            0 => EDGES[self.below(EDGES.len())],
            1 => b"QPBDCESHFXdcfpRKTZNWGtv123nsIA"[self.below(30)],
            _ => u8::try_from(self.next() & 0xff).unwrap(),
        }
    }

    /// Bends `bytes` in one to four places.
    fn bend(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let place = self.below(bytes.len());
            match self.below(8) {
                0 | 1 if !bytes.is_empty() => bytes[place] = self.byte(),
                2 if !bytes.is_empty() => bytes[place] ^= 1 << self.below(8),
                3 if !bytes.is_empty() => {
                    bytes[place] = bytes[place].wrapping_add(if self.below(2) == 0 { 1 } else { 255 })
                }
                4 => bytes.truncate(place),
                5 => bytes.insert(place, self.byte()),
                6 if !bytes.is_empty() => drop(bytes.remove(place)),
                _ => {
                    let end = (place + self.below(9)).min(bytes.len());
                    let again = bytes[place.min(end)..end].to_vec();
                    bytes.extend(again);
                }
            }
        }
    }

    /// One to three of `messages`, one behind the other, bent or (one time in eight) not.
    fn stream(&mut self, messages: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = vec![];
        for _ in 0..=self.below(3) {
            bytes.extend_from_slice(&messages[self.below(messages.len())]);
        }
        if self.below(8) > 0 {
            self.bend(&mut bytes);
        }
        bytes
    }
}

fn built(build: impl FnOnce(&mut Vec<u8>) -> Result<(), Violation>) -> Vec<u8> {
    let mut out = vec![];
    build(&mut out).unwrap();
    out
}

fn infallible(build: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    built(|out| {
        build(out);
        Ok(())
    })
}

fn client_messages() -> Vec<Vec<u8>> {
    use frontend as f;
    vec![
        built(|out| f::query(out, b"SELECT 1")),
        built(|out| f::parse(out, b"s1", b"SELECT $1", &[20, 25])),
        built(|out| f::bind(out, b"p1", b"s1", &[0, 1], &[Some(b"12"), None], &[1])),
        built(|out| f::bind(out, b"", b"", &[], &[Some(b""), Some(b"abc")], &[])),
        built(|out| f::describe(out, Target::Statement(b"s1"))),
        built(|out| f::close(out, Target::Portal(b"p1"))),
        built(|out| f::execute(out, b"p1", 100)),
        infallible(f::sync),
        infallible(f::flush),
        infallible(f::terminate),
        built(|out| f::copy_data(out, b"1\ta\n")),
        infallible(f::copy_done),
        built(|out| f::build_copy_fail(out, b"no more")),
        built(|out| f::sasl_initial(out, scram::PLAIN, b"n,,n=,r=rOprNGfwEbeRWgbNEkqO")),
        built(|out| {
            f::sasl_response(out, b"c=biws,r=rOprNGfwEbeRWgbNEkqO,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
        }),
        built(|out| f::build_password(out, b"secret")),
        b"F\0\0\0\x0e\0\0\0\x01\0\0\0\0\0\0".to_vec(),
    ]
}

/// Reads a client's message in every way there is, whatever it says it is. A view that reads it must have read all of
/// it: what is built from the view is the message again. Otherwise a proxy and a server could disagree about it.
fn read_as_client_message(frame: &Frame<'_>) {
    let (kind, body) = (frame.kind, frame.body);
    let again = |build: &dyn Fn(&mut Vec<u8>) -> Result<(), Violation>| {
        let mut out = vec![];
        build(&mut out).unwrap();
        assert_eq!(out[5..], *body, "{}", char::from(kind));
    };
    if let Ok(it) = frontend::Query::read(body) {
        again(&|out| frontend::query(out, it.text));
    }
    if let Ok(it) = frontend::Parse::read(body) {
        again(&|out| frontend::parse(out, it.name, it.text, &it.types().collect::<Vec<_>>()));
    }
    if let Ok(it) = frontend::Bind::read(body) {
        let codes = |it: &[u8]| it.as_chunks::<2>().0.iter().map(|it| i16::from_be_bytes(*it)).collect::<Vec<_>>();
        let values: Vec<_> = it.values().collect();
        assert_eq!(values.len(), it.count());
        for (index, value) in values.iter().enumerate() {
            assert_eq!(it.value(index).unwrap().1, *value);
        }
        let (formats, results) = (codes(it.formats.bytes()), codes(it.results.bytes()));
        again(&|out| frontend::bind(out, it.portal, it.statement, &formats, &values, &results));
    }
    if let Ok(it) = Target::read(body) {
        again(&|out| frontend::describe(out, it));
    }
    if let Ok(it) = frontend::Execute::read(body) {
        again(&|out| frontend::execute(out, it.portal, it.rows_max));
    }
    if let Ok(frontend::SaslInitial { mechanism, data: Some(data) }) = frontend::SaslInitial::read(body)
        && let Ok(mechanism) = std::str::from_utf8(mechanism)
    {
        again(&|out| frontend::sasl_initial(out, mechanism, data));
    }
    if let Ok(it) = frontend::password(body) {
        again(&|out| frontend::build_password(out, it));
    }
    if let Ok(it) = frontend::copy_fail(body) {
        again(&|out| frontend::build_copy_fail(out, it));
    }
    let mut renamed = vec![];
    if frontend::with_statement(&mut renamed, frame, b"other").is_ok() {
        let after = frame::cut(&renamed, LIMIT + 16).unwrap().expect("a frame comes out of a frame");
        assert_eq!((after.kind, after.bytes.len()), (kind, renamed.len()));
        // The same views read it, and the way back leads to where it came from.
        let name = match kind {
            b'P' => frontend::Parse::read(body).ok().map(|it| it.name),
            b'B' => frontend::Bind::read(body).ok().map(|it| it.statement),
            _ => match Target::read(body) {
                Ok(Target::Statement(name)) => Some(name),
                _ => None,
            },
        };
        if let Some(name) = name {
            let mut back = vec![];
            frontend::with_statement(&mut back, &after, name).unwrap();
            assert_eq!(back, frame.bytes);
        }
    } else {
        assert!(renamed.is_empty());
    }
}

/// The frames of `bytes` as (type, length), and how it ended.
fn cut_all(bytes: &[u8]) -> (Vec<(u8, usize)>, usize, Option<Violation>) {
    let (mut at, mut cut) = (0, vec![]);
    loop {
        match frame::cut(&bytes[at..], LIMIT) {
            Ok(Some(frame)) => {
                assert_eq!(frame.bytes, &bytes[at..at + frame.bytes.len()]);
                assert_eq!(frame.bytes[1..5], i32::try_from(frame.body.len() + 4).unwrap().to_be_bytes());
                assert_eq!(&frame.bytes[5..], frame.body);
                cut.push((frame.kind, frame.bytes.len()));
                at += frame.bytes.len();
            }
            Ok(None) => {
                if let Ok(Some(head)) = frame::head(&bytes[at..], LIMIT) {
                    assert!(head.body <= LIMIT, "nobody waits for more than the limit");
                    assert!(head.frame() > bytes.len() - at);
                }
                return (cut, at, None);
            }
            Err(violation) => return (cut, at, Some(violation)),
        }
    }
}

#[test]
fn bent_client_messages_are_cut_the_same_however_they_arrive() {
    let messages = client_messages();
    let mut chance = Chance(1);
    let (mut whole, mut refused) = (0_u64, 0_u64);
    for _ in 0..ROUNDS {
        let bytes = chance.stream(&messages);
        let at_once = cut_all(&bytes);
        whole += u64::try_from(at_once.0.len()).unwrap();
        refused += u64::from(at_once.2.is_some());
        let mut at = 0;
        for (_, length) in &at_once.0 {
            read_as_client_message(&frame::cut(&bytes[at..], LIMIT).unwrap().unwrap());
            at += length;
        }
        // In two pieces: what was cut from the first is a part of what is cut from both.
        let split = chance.below(bytes.len() + 1);
        let first = cut_all(&bytes[..split]);
        assert_eq!(first.0[..], at_once.0[..first.0.len()]);
        if first.2.is_some() {
            assert_eq!(first, at_once);
        } else {
            let rest = cut_all(&bytes[first.1..]);
            assert_eq!([first.0, rest.0].concat(), at_once.0);
            assert_eq!((first.1 + rest.1, rest.2), (at_once.1, at_once.2));
        }
    }
    // The bending must neither spare everything nor destroy everything, or this test would test nothing.
    assert!(whole > ROUNDS / 2 && refused > ROUNDS / 20, "{whole} whole, {refused} refused");
}

fn server_messages() -> Vec<Vec<u8>> {
    use backend as b;
    vec![
        infallible(b::authentication_ok),
        b"R\0\0\0\x0c\0\0\0\x05abcd".to_vec(),
        built(|out| b::authentication_sasl(out, &[scram::PLUS, scram::PLAIN])),
        built(|out| b::sasl_continue(out, b"r=abc,s=QSXCR+Q6sek8bf92,i=4096")),
        built(|out| b::sasl_final(out, b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=")),
        built(|out| b::parameter_status(out, "TimeZone", "UTC")),
        built(|out| b::key_data(out, 7, &[1, 2, 3, 4])),
        infallible(|out| b::ready(out, b'I')),
        built(|out| b::row_description(out, &[Column::text("a"), Column::of("b", 20, 8)])),
        built(|out| b::data_row(out, &[Some("x"), None])),
        built(|out| b::data_row(out, &[Some("y".repeat(300))])),
        built(|out| b::command_complete(out, "SELECT 2")),
        infallible(b::parse_complete),
        infallible(b::bind_complete),
        infallible(b::close_complete),
        infallible(b::no_data),
        infallible(b::empty_query),
        infallible(b::portal_suspended),
        built(|out| b::parameter_description(out, &[20, 25])),
        built(|out| b::negotiate_version(out, 0, &[b"_pq_.x"])),
        infallible(|out| b::notice(out, Severity::Notice, "00000", "hello", Some("Nothing."))),
        b"E\0\0\0\x17SERROR\0C22012\0Mno\0\0".to_vec(),
        b"G\0\0\0\x09\0\0\x01\0\0".to_vec(),
        b"H\0\0\0\x09\0\0\x01\0\0".to_vec(),
        b"A\0\0\0\x0b\0\0\0\x01c\0p\0".to_vec(),
        b"d\0\0\0\x07a\tb".to_vec(),
        b"c\0\0\0\x04".to_vec(),
    ]
}

/// Reads a server's message in every way there is.
fn read_as_server_message(body: &[u8]) {
    let again = |build: &dyn Fn(&mut Vec<u8>) -> Result<(), Violation>| {
        let mut out = vec![];
        build(&mut out).unwrap();
        assert_eq!(out[5..], *body);
    };
    if let Ok(it) = backend::Report::read(body) {
        let mut fields: Vec<u8> = it.fields().flat_map(|(letter, text)| [&[letter], text, &[0]].concat()).collect();
        fields.push(0);
        assert_eq!(fields, body);
        assert!(it.code().is_none_or(|it| it.len() == 5));
        assert!(!it.is_fatal() || it.severity().is_some());
    }
    if let Ok(it) = backend::RowDescription::read(body) {
        let columns: Vec<_> = it.columns().collect();
        assert_eq!(columns.len(), it.count());
        again(&|out| backend::row_description(out, &columns));
    }
    if let Ok(it) = backend::DataRow::read(body) {
        let cells: Vec<_> = it.cells().collect();
        assert_eq!(cells.len(), it.count());
        again(&|out| backend::data_row(out, &cells));
    }
    if let Ok(it) = backend::tag(body) {
        assert!(backend::tag_rows(it).is_none() || it.last().is_some_and(u8::is_ascii_digit));
        assert_eq!([it, b"\0"].concat(), body);
    }
    if let Ok((name, value)) = backend::parameter(body) {
        assert_eq!([name, b"\0", value, b"\0"].concat(), body);
    }
    if let Ok((pid, key)) = backend::cancel_key(body) {
        again(&|out| backend::key_data(out, pid, key));
    }
    if let Ok(it) = backend::parameter_types(body) {
        let types: Vec<_> = it.collect();
        again(&|out| backend::parameter_description(out, &types));
    }
    if let Ok(it) = backend::CopyResponse::read(body) {
        assert_eq!(body.len(), 3 + 2 * it.columns());
    }
    if let Ok(it) = backend::Notification::read(body) {
        assert_eq!([&it.pid.to_be_bytes(), it.channel, b"\0", it.payload, b"\0"].concat(), body);
    }
    if let Ok(it) = backend::Authentication::read(body) {
        match it {
            backend::Authentication::Sasl { mechanisms } => {
                let names: Vec<u8> = mechanisms.iter().flat_map(|it| [it, &b"\0"[..]].concat()).collect();
                assert_eq!([&10_u32.to_be_bytes()[..], &names, b"\0"].concat(), body);
            }
            backend::Authentication::SaslContinue { data } => again(&|out| backend::sasl_continue(out, data)),
            backend::Authentication::SaslFinal { data } => again(&|out| backend::sasl_final(out, data)),
            _ => {}
        }
    }
}

/// What a scan reports of `bytes` that come in pieces, and how it ended.
fn scan_all(bytes: &[u8], mut scan: Scan, mut piece: impl FnMut() -> usize) -> (Vec<(u8, usize)>, bool) {
    let (mut held, mut rest, mut seen) = (vec![], bytes, vec![]);
    loop {
        let (next, after) = rest.split_at(piece().clamp(1, rest.len().max(1)).min(rest.len()));
        held.extend_from_slice(next);
        rest = after;
        let mut at = 0;
        loop {
            match scan.next(&held, &mut at) {
                Ok(Some(it)) => {
                    assert!(it.start < at && at <= held.len());
                    if let Some(body) = it.body {
                        assert_eq!((body.len() + 5, it.start + it.length), (it.length, at));
                        read_as_server_message(body);
                    }
                    assert_eq!(it.status().is_some(), it.kind == b'Z');
                    seen.push((it.kind, it.length));
                }
                Ok(None) => break,
                Err(_) => return (seen, true),
            }
        }
        assert!(at <= held.len());
        held.drain(..at);
        assert!(held.len() < WHOLE_MAX + 5, "what is held back is bounded");
        assert!(scan.missing() <= WHOLE_MAX + 5, "what is asked for is bounded");
        assert!(scan.inside() == 0 || held.is_empty(), "bodies that stream are never held");
        if rest.is_empty() {
            return (seen, false);
        }
    }
}

const WHOLE_MAX: usize = 200;

#[test]
fn bent_server_messages_are_seen_the_same_however_they_arrive() {
    let messages = server_messages();
    let mut chance = Chance(2);
    let (mut whole, mut refused) = (0_u64, 0_u64);
    for round in 0..ROUNDS {
        let bytes = chance.stream(&messages);
        let scan = match round % 3 {
            0 => Scan::new(Kinds::BULK, Kinds::NOTABLE, WHOLE_MAX),
            1 => Scan::new(Kinds::NONE, Kinds::SERVER, WHOLE_MAX),
            _ => Scan::new(Kinds::BULK, Kinds::NONE, WHOLE_MAX),
        };
        let at_once = scan_all(&bytes, scan.clone(), || usize::MAX);
        let one_by_one = scan_all(&bytes, scan.clone(), || 1);
        let in_pieces = scan_all(&bytes, scan, || chance.below(40));
        // A message may be reported at its header or at its end, but as the same message in the same order. Where the
        // stream breaks off or breaks the rules, one reading may have got one message further.
        let shared = at_once.0.len().min(one_by_one.0.len()).min(in_pieces.0.len());
        assert_eq!(at_once.0[..shared], one_by_one.0[..shared]);
        assert_eq!(at_once.0[..shared], in_pieces.0[..shared]);
        assert_eq!((at_once.0.len(), at_once.1), (one_by_one.0.len(), one_by_one.1), "{bytes:?}");
        assert_eq!((at_once.0.len(), at_once.1), (in_pieces.0.len(), in_pieces.1), "{bytes:?}");
        whole += u64::try_from(shared).unwrap();
        refused += u64::from(at_once.1);
    }
    assert!(whole > ROUNDS / 2 && refused > ROUNDS / 20, "{whole} whole, {refused} refused");
}

fn startup_packets() -> Vec<Vec<u8>> {
    let session = built(|out| {
        frontend::startup(
            out,
            &[
                ("user", "ann"),
                ("database", "shop"),
                ("options", "-c geqo=off --search-path=a\\ b"),
                ("application_name", "test"),
                ("replication", "off"),
                ("_pq_.x", "1"),
            ],
        )
    });
    vec![
        frontend::TLS_REQUEST.to_vec(),
        vec![0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30],
        built(|out| frontend::cancel_request(out, 7, &[1, 2, 3, 4])),
        session,
    ]
}

#[test]
fn bent_startup_packets_say_one_thing_or_nothing() {
    let packets = startup_packets();
    let mut chance = Chance(3);
    let (mut whole, mut refused) = (0_u64, 0_u64);
    for _ in 0..ROUNDS {
        let bytes = chance.stream(&packets);
        let bits = chance.next();
        let situation = Situation {
            tls_offered: bits & 1 != 0,
            tls_required: bits & 2 != 0,
            in_tls: bits & 4 != 0,
            tls_asked: bits & 8 != 0,
            gss_asked: bits & 16 != 0,
        };
        let mut held = bytes.as_slice().into();
        let opening = open(&mut held, situation);
        match Startup::cut(&bytes) {
            Ok(Some((startup, length))) => {
                whole += 1;
                assert!((8..=frontend::STARTUP_MAX).contains(&length));
                // Fewer bytes never say something else.
                assert_eq!(Startup::cut(&bytes[..length - 1]), Ok(None));
                assert_eq!(Startup::cut(&bytes[..length]), Ok(Some((startup.clone(), length))));
                assert!(opening.is_err() || held[..] == bytes[length..]);
                if let Startup::Session(session) = startup {
                    let parameters: Vec<u8> =
                        session.parameters.iter().flat_map(|it| [it.0, b"\0", it.1, b"\0"].concat()).collect();
                    assert_eq!([&parameters[..], b"\0"].concat(), bytes[8..length]);
                }
            }
            Ok(None) => assert!(bytes.len() < frontend::STARTUP_MAX),
            Err(_) => {
                refused += 1;
                assert!(opening.is_err());
            }
        }
    }
    assert!(whole > ROUNDS / 4 && refused > ROUNDS / 20, "{whole} whole, {refused} refused");
}

#[test]
fn bent_proofs_prove_nothing() {
    let verifier = Pepper::new([1; 32]).nobody(b"ann");
    let messages = [
        b"n,,n=,r=rOprNGfwEbeRWgbNEkqO".to_vec(),
        b"y,,n=ann,r=rOprNGfwEbeRWgbNEkqO".to_vec(),
        b"p=tls-server-end-point,,n=,r=rOprNGfwEbeRWgbNEkqO".to_vec(),
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=".to_vec(),
        b"r=rOprNGfwEbeRWgbNEkqOx,s=QSXCR+Q6sek8bf92,i=1".to_vec(),
        b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=".to_vec(),
    ];
    let server = scram::Server::new(None);
    let mut chance = Chance(4);
    let mut begun = 0_u64;
    for _ in 0..ROUNDS / 6 {
        let (first, second) = (chance.stream(&messages), chance.stream(&messages));
        if let Ok((_, waiting)) = server.first(scram::PLAIN.as_bytes(), &first, &verifier) {
            begun += 1;
            assert!(waiting.finish(&second).is_err());
        }
        let mut client = scram::Client::choose(&[scram::PLAIN.as_bytes()], None, "geheim").unwrap();
        assert!(client.answer(&first).is_err(), "no bent challenge holds our nonce");
        assert!(client.finish(&second).is_err());
    }
    assert!(begun > 1000, "{begun}");
}

/// Whole conversations, bent somewhere: each ends, and none of the bent ones lets anybody in who has no password.
#[test]
fn bent_conversations_end() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let verifiers = Arc::new(Verifiers::new([1; 32]));
        let secret = Secret::new("geheim");
        verifiers.warm([("ann", &secret)]);
        let users = |user: &str, _: &str| (user == "ann").then(|| UserAuth::Password(secret.clone()));
        let (clients, servers) = (client_messages(), server_messages());
        let startup = startup_packets().pop().unwrap();
        let mut chance = Chance(5);
        let (mut challenged, mut opened) = (0, 0);
        for _ in 0..20_000 {
            let deadline = clock::now().plus(Duration::from_secs(60));
            let entrance = Entrance { tls: None, tls_required: false, verifiers: &verifiers, users: &users, deadline };
            let mut conversation = startup.clone();
            conversation.extend_from_slice(&clients[13]);
            conversation.extend(chance.stream(&clients[13..15]));
            if chance.below(2) == 0 {
                chance.bend(&mut conversation);
            }
            let (mut client, server) = Stream::memory(1 << 16);
            client.write_all(&conversation).await.unwrap();
            client.shutdown().await.unwrap();
            let arrival = login(server, &entrance).await;
            assert!(!matches!(arrival, Ok(Arrival::Client(_))), "nobody knew the password");
            let mut told = vec![];
            client.read_to_end(&mut told).await.unwrap();
            challenged += usize::from(told.windows(3).any(|it| it == b",s="));

            let ask = server_login::Login {
                user: "ann",
                password: Some(&secret),
                database: "shop",
                parameters: &[],
                query: "",
            };
            let (ours, mut server) = Stream::memory(1 << 16);
            let mut script = chance.stream(&servers[..1]);
            script.extend(if chance.below(2) == 0 { chance.stream(&servers[5..7]) } else { chance.stream(&servers) });
            script.extend_from_slice(&servers[7]);
            server.write_all(&script).await.unwrap();
            server.shutdown().await.unwrap();
            if let Ok(it) = server_login::open_on(ours, &ask, deadline).await {
                assert!(script.windows(9).any(|it| it == servers[0]), "in only after AuthenticationOk");
                assert!(it.leftover.len() <= script.len());
                opened += 1;
            }
        }
        // Bent as they are, many get as far as the challenge, and some servers say all that is needed.
        assert!(challenged > 1000 && opened > 100, "{challenged} challenged, {opened} opened");
    });
}

/// Whoever never stops talking is not listened to for long.
#[test]
fn endless_talk_is_cut_off_at_the_limit() {
    const HELD: usize = 64;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let verifiers = Arc::new(Verifiers::new([1; 32]));
        let users = |_: &str, _: &str| None;
        let deadline = clock::now().plus(Duration::from_secs(60));
        let startup = startup_packets().pop().unwrap();
        let longest = [&10_000_i32.to_be_bytes()[..], &[0, 3, 0, 0]].concat();
        let answer = [&startup[..], b"p\0\0\x04\x04"].concat();
        // What one packet may hold, and what is read and buffered besides.
        for (beginning, allowed) in [(vec![], 4), (longest, 10_000), (answer, 1024 + 5)] {
            let (client, server) = Stream::memory(HELD);
            let entrance = Entrance { tls: None, tls_required: false, verifiers: &verifiers, users: &users, deadline };
            let talk = async {
                let (mut ear, mut mouth) = tokio::io::split(client);
                mouth.write_all(&beginning).await.unwrap();
                let (mut said, mut told) = (0_usize, [0; HELD]);
                loop {
                    tokio::select! {
                        heard = ear.read(&mut told) => if heard.unwrap() == 0 { return said },
                        taken = mouth.write(b"x") => match taken {
                            Ok(count) => said += count,
                            Err(_) => return said,
                        },
                    }
                }
            };
            // The login's end closes its side, and that ends the talk.
            let (arrival, said) = tokio::join!(login(server, &entrance), talk);
            assert!(arrival.is_err());
            assert!(said <= allowed + 1024 + HELD, "{said} bytes were taken");
        }
    });
}
