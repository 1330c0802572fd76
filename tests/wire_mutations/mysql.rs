//! The same for MySQL's packets and logins.

use std::fmt::Debug;
use std::time::Duration;

use shardway::backend::mysql::login as server_login;
use shardway::clock;
use shardway::net::Stream;
use shardway::session::mysql::login::Entrance;
use shardway::session::mysql::login::OFFERED;
use shardway::session::mysql::login::login;
use shardway::shard_map::Secret;
use shardway::shard_map::UserAuth;
use shardway::wire::mysql::Violation;
use shardway::wire::mysql::auth;
use shardway::wire::mysql::capability;
use shardway::wire::mysql::command::Command;
use shardway::wire::mysql::command::Type;
use shardway::wire::mysql::compress;
use shardway::wire::mysql::compress::Method;
use shardway::wire::mysql::frame;
use shardway::wire::mysql::frame::Joiner;
use shardway::wire::mysql::handshake::Greeting;
use shardway::wire::mysql::handshake::Response;
use shardway::wire::mysql::handshake::Switch;
use shardway::wire::mysql::handshake::change_user;
use shardway::wire::mysql::kind;
use shardway::wire::mysql::result;
use shardway::wire::mysql::result::Column;
use shardway::wire::mysql::result::Done;
use shardway::wire::mysql::result::Failure;
use shardway::wire::mysql::result::First;
use shardway::wire::mysql::result::Prepared;
use shardway::wire::mysql::status;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;

use super::Chance;
use super::LIMIT;
use super::ROUNDS;

const KINDS: [u8; 5] = [kind::LONG, kind::VAR_STRING, kind::DATETIME, kind::TINY, kind::DOUBLE];

fn greeting() -> Greeting {
    Greeting {
        version: "8.4.0".into(),
        connection: 7,
        salt: [7; 20],
        capabilities: OFFERED,
        collation: 45,
        status: 2,
        plugin: auth::CACHING_SHA2.into(),
    }
}

fn response() -> Response {
    Response {
        capabilities: OFFERED,
        packet_max: 1 << 24,
        collation: 45,
        user: b"ann".to_vec(),
        proof: vec![1; 32],
        database: Some(b"shop".to_vec()),
        plugin: auth::CACHING_SHA2.into(),
        attributes: vec![(b"_os".to_vec(), b"Linux".to_vec())],
        zstd_level: 3,
    }
}

fn payloads() -> Vec<Vec<u8>> {
    let changes = b"\x00\x0f\x0aautocommit\x03OFF\x01\x05\x04shop\x02\x011\x05\x09\x08T___W___".to_vec();
    let done =
        Done { affected: 300, insert_id: 1 << 40, status: 2, warnings: 3, info: b"Records: 2".to_vec(), changes };
    let failure = Failure { number: 1064, sqlstate: "42000".into(), message: "You have an error".into() };
    let column = Column { name: b"n".to_vec(), kind: kind::VAR_STRING, ..Column::default() };
    let (mut text, mut binary) = (Vec::new(), Vec::new());
    result::put_text_row(&mut text, [Some(&b"1"[..]), None, Some(b""), Some(b"abc"), Some(b"d")]);
    let cells = [Some(&[1, 0, 0, 0][..]), Some(b"abc"), Some(&[0xe8, 7, 1, 2]), None, Some(&[0; 8])];
    result::put_binary_row(&mut binary, &KINDS, &cells);
    vec![
        greeting().payload(),
        response().payload(),
        Switch { plugin: auth::NATIVE.into(), salt: vec![9; 20] }.payload(),
        done.payload(0, OFFERED),
        done.payload(0xfe, 0),
        failure.payload(),
        result::end_of_rows(1, 2),
        result::column_count(300),
        column.payload(),
        text,
        binary,
        Prepared { statement: 9, columns: 2, parameters: 3, warnings: 1 }.payload(),
        b"\x03SELECT 1".to_vec(),
        b"\x03\x01\x01\0\x01\xfd\0\x01n\x01vSELECT 1".to_vec(),
        b"\x11ann\0\x02xxshop\0\x2d\0caching_sha2_password\0".to_vec(),
        b"\x17\x01\0\0\0\0\x01\0\0\0\x02\x01\x03\0\xfd\0\x01\0\0\0".to_vec(),
        b"\x18\x01\0\0\0\0\0abc".to_vec(),
        b"\x04t\0%".to_vec(),
    ]
}

/// What is built of a view is read as the same view.
fn same<T: PartialEq + Debug>(view: &T, again: Result<T, Violation>) {
    assert_eq!(again.as_ref(), Ok(view));
}

/// Reads a payload in every way there is, whatever it says it is. How many ways went.
fn read_in_every_way(payload: &[u8]) -> usize {
    let mut read = 0;
    if let Ok(it) = Greeting::read(payload)
        && !it.plugin.contains('\0')
    {
        same(&it, Greeting::read(&it.payload()));
        read += 1;
    }
    if let Ok(it) = Response::read(payload) {
        same(&it, Response::read(&it.payload()));
        read += 1;
    }
    if let Ok(it) = Switch::read(payload) {
        same(&it, Switch::read(&it.payload()));
        read += 1;
    }
    if let Ok(it) = Column::read(payload) {
        same(&it, Column::read(&it.payload()));
        read += 1;
    }
    if let Ok(it) = Prepared::read(payload) {
        same(&it, Prepared::read(&it.payload()));
        read += 1;
    }
    if let Ok(it) = Failure::read(payload) {
        let again = Failure::read(&it.payload()).unwrap();
        assert_eq!(again.number, it.number);
        read += 1;
    }
    for capabilities in [0, capability::SESSION_TRACK, OFFERED, u32::MAX] {
        if let Ok(mut it) = Done::read(payload, capabilities) {
            let mut again = Done::read(&it.payload(payload[0], capabilities), capabilities).unwrap();
            // The flag says whether changes are there, and is set by that.
            (it.status, again.status) = (it.status | status::STATE_CHANGED, again.status | status::STATE_CHANGED);
            assert_eq!(again, it);
            let _ = it.changes();
            read += 1;
        }
        read += usize::from(First::read(payload, capabilities).is_ok());
        let _ = change_user(payload, capabilities);
        if let Ok(Command::Execute(it)) = Command::read(payload, capabilities) {
            let known = vec![Type { kind: kind::LONG, unsigned: false }; 2];
            for count in [0, 1, 2, 70_000] {
                let _ = it.parameters(count, Some(&known), |place| place == 1);
            }
        }
        let _ = result::ends_rows(payload, capabilities);
    }
    if let Ok(cells) = result::text_row(payload, KINDS.len()) {
        let mut again = Vec::new();
        result::put_text_row(&mut again, cells.iter().copied());
        assert_eq!(result::text_row(&again, KINDS.len()).unwrap(), cells);
        read += 1;
    }
    if let Ok(cells) = result::binary_row(payload, &KINDS) {
        let mut again = Vec::new();
        result::put_binary_row(&mut again, &KINDS, &cells);
        assert_eq!(result::binary_row(&again, &KINDS).unwrap(), cells);
        read += 1;
    }
    let _ = result::read_end_of_rows(payload);
    read
}

#[test]
fn bent_mysql_payloads_are_read_or_refused() {
    let payloads = payloads();
    let mut chance = Chance(11);
    let (mut read, mut refused) = (0, 0);
    for _ in 0..ROUNDS / 3 {
        let mut payload = payloads[chance.below(payloads.len())].clone();
        chance.bend(&mut payload);
        if !payload.is_empty() {
            let ways = read_in_every_way(&payload);
            read += u64::from(ways > 0);
            refused += u64::from(ways == 0);
        }
    }
    assert!(read > ROUNDS / 10 && refused > ROUNDS / 100, "{read} read, {refused} refused");
}

/// Bent pieces are unpacked or refused, and no more comes of one than it says.
#[test]
fn bent_compressed_pieces_are_taken_or_refused() {
    let mut chance = Chance(12);
    let plain: Vec<u8> = (0..3000_u32).map(|it| it.wrapping_mul(it).to_le_bytes()[1] & 15).collect();
    for method in [Method::Zlib, Method::Zstd(1), Method::Zstd(19)] {
        let mut whole = Vec::new();
        compress::put(&mut whole, 0, &plain, method);
        let (mut taken, mut refused) = (0, 0);
        for _ in 0..ROUNDS / 100 {
            let mut bytes = whole.clone();
            chance.bend(&mut bytes);
            let mut found = Vec::new();
            match compress::take(&bytes, &mut found, method) {
                Ok(Some((used, _))) => {
                    assert!(used <= bytes.len());
                    taken += 1;
                }
                Ok(None) => assert_eq!(found, b""),
                Err(_) => refused += 1,
            }
            // One byte more is enough to know.
            let says = bytes.get(4..7).map_or(0, |it| u32::from_le_bytes([it[0], it[1], it[2], 0]) as usize);
            assert!(found.len() <= (says + 1).max(bytes.len()), "{} of {says}", found.len());
        }
        assert!(taken > 0 && refused > ROUNDS / 1000, "{method:?}: {taken} taken, {refused} refused");
    }
}

/// The payloads of `bytes`, what was used for them, and how it ended.
fn take_all(joiner: &mut Joiner, bytes: &[u8]) -> (Vec<Vec<u8>>, usize, Option<Violation>) {
    let (mut at, mut taken) = (0, Vec::new());
    loop {
        match joiner.take(&bytes[at..]) {
            Ok(Some((used, payload))) => {
                let packet = frame::packet(&bytes[at..]).unwrap();
                assert_eq!(packet.body.end, used);
                taken.extend(payload.map(|it| it.bytes().to_vec()));
                at += used;
            }
            Ok(None) => {
                // Nobody waits for more than the limit.
                if let Some(&[a, b, c, _]) = bytes[at..].first_chunk() {
                    assert!(usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16 <= LIMIT);
                }
                return (taken, at, None);
            }
            Err(violation) => return (taken, at, Some(violation)),
        }
    }
}

#[test]
fn bent_mysql_packets_are_cut_the_same_however_they_arrive() {
    let payloads = payloads();
    let mut chance = Chance(12);
    let (mut whole, mut refused) = (0_usize, 0_u64);
    for _ in 0..ROUNDS {
        let mut bytes = Vec::new();
        let mut sequence = 0;
        for _ in 0..=chance.below(3) {
            sequence = frame::put(&mut bytes, sequence, &payloads[chance.below(payloads.len())]);
        }
        if chance.below(8) > 0 {
            chance.bend(&mut bytes);
        }
        let at_once = take_all(&mut Joiner::new(LIMIT), &bytes);
        whole += at_once.0.len();
        refused += u64::from(at_once.2.is_some());
        let mut joiner = Joiner::new(LIMIT);
        let first = take_all(&mut joiner, &bytes[..chance.below(bytes.len() + 1)]);
        if first.2.is_some() {
            assert_eq!(first, at_once);
        } else {
            let rest = take_all(&mut joiner, &bytes[first.1..]);
            assert_eq!(([first.0, rest.0].concat(), first.1 + rest.1, rest.2), at_once);
        }
    }
    let least = usize::try_from(ROUNDS / 2).unwrap();
    assert!(whole > least && refused > ROUNDS / 20, "{whole} whole, {refused} refused");
}

/// Whole conversations, bent somewhere: each ends, and none of the bent ones lets anybody in who has no password.
#[test]
fn bent_mysql_conversations_end() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let secret = Secret::new("geheim");
        let users = |user: &str| (user == "ann").then(|| UserAuth::Password(secret.clone()));
        let mut chance = Chance(13);
        let (mut judged, mut opened) = (0, 0);
        for _ in 0..20_000 {
            let deadline = clock::now().plus(Duration::from_secs(60));
            let entrance =
                Entrance { tls: None, tls_required: false, users: &users, version: "8.4.0", connection: 1, deadline };
            let mut conversation = Vec::new();
            let mut said = response();
            if chance.below(2) == 0 {
                said.plugin = b"dialog".to_vec();
            }
            let next = frame::put(&mut conversation, 1, &said.payload());
            frame::put(&mut conversation, next + 1, &[1; 20]);
            chance.bend(&mut conversation);
            let (mut client, server) = Stream::memory(1 << 16);
            client.write_all(&conversation).await.unwrap();
            client.shutdown().await.unwrap();
            assert!(login(server, &entrance).await.is_err(), "nobody knew the password");
            let mut told = vec![];
            client.read_to_end(&mut told).await.unwrap();
            judged += usize::from(told.windows(13).any(|it| it == b"Access denied"));

            let ask = server_login::Login {
                user: "ann",
                password: Some(&secret),
                database: "shop",
                flags: 0,
                collation: 45,
                setup: |_| "",
                query: "",
            };
            let (ours, mut server) = Stream::memory(1 << 16);
            let (mut script, ok) = (Vec::new(), Done::default().payload(0, OFFERED));
            frame::put(&mut script, 0, &greeting().payload());
            let next = frame::put(&mut script, 2, &[1, auth::sha2_byte::FAST_OK]);
            frame::put(&mut script, next, &ok);
            chance.bend(&mut script);
            server.write_all(&script).await.unwrap();
            server.shutdown().await.unwrap();
            if let Ok(it) = server_login::open_on(ours, &ask, deadline).await {
                assert!(it.leftover.len() <= script.len());
                opened += 1;
            }
        }
        assert!(judged > 1000 && opened > 100, "{judged} judged, {opened} opened");
    });
}

/// Whoever never stops talking is not listened to for long.
#[test]
fn endless_mysql_talk_is_cut_off_at_the_limit() {
    const HELD: usize = 64;
    const LONGEST: usize = 64 << 10;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let users = |_: &str| None;
        let deadline = clock::now().plus(Duration::from_secs(60));
        for (beginning, allowed) in [(&[0xff, 0xff, 0xff, 1], 4), (&[0, 0, 1, 1], 4 + LONGEST)] {
            let (client, server) = Stream::memory(HELD);
            let entrance =
                Entrance { tls: None, tls_required: false, users: &users, version: "8.4.0", connection: 1, deadline };
            let talk = async {
                let (mut ear, mut mouth) = tokio::io::split(client);
                mouth.write_all(beginning).await.unwrap();
                let (mut said, mut told) = (beginning.len(), [0; HELD]);
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
            assert!(said <= allowed + HELD, "{said} bytes were taken");
        }
    });
}
