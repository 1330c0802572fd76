//! Clients that break the protocol: they are told or thrown out, one answer follows one command, and nobody else notices.

use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::net::TcpStream;

use crate::client::Client;
use crate::client::Value;
use crate::house::BOTH;
use crate::house::HANG;
use crate::house::House;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % bound
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| u8::try_from(self.below(256)).expect("a byte")).collect()
    }
}

/// A packet that says of itself what it likes.
fn packet(length: usize, sequence: u8, body: &[u8]) -> Vec<u8> {
    let [a, b, c, ..] = u32::try_from(length).expect("it fits").to_le_bytes();
    [&[a, b, c, sequence], body].concat()
}

fn whole(body: &[u8]) -> Vec<u8> {
    packet(body.len(), 0, body)
}

/// All that is said until the connection ends. What it ends with is nobody's matter: what was not read is lost by a reset.
fn rest(mut stream: TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(HANG)).expect("a limit");
    let _ = stream.shutdown(Shutdown::Write);
    let mut heard = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return heard,
            Ok(count) => heard.extend(&chunk[..count]),
            Err(error) => {
                let hangs = matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
                assert!(!hangs, "neither an answer nor an end");
                return heard;
            }
        }
    }
}

/// Others are served, the server connections they get are in order, and rows are as they were.
fn others_are_served(house: &House, keys: [i64; 2], context: &str) {
    let mut client = house.client(BOTH);
    for key in keys {
        let answer = client.query(&format!("SELECT id, note FROM t WHERE id = {key}"));
        assert_eq!(answer.len(), 1, "{context}: {answer:?}");
        let expected = vec![vec![Some(key.to_string().into_bytes()), Some(b"kept".to_vec())]];
        assert_eq!(answer[0].rows, expected, "{context}: {answer:?}");
    }
}

#[test]
fn what_is_no_packet_hurts_nobody_else() {
    let house = House::build("size: 2", "");
    let keys = house.keys();
    for key in keys {
        house.client(BOTH).done(&format!("INSERT INTO t VALUES ({key}, 1, 'kept')")).expect("a row");
    }
    let seed = std::env::var("MYSQL_FAULTS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(11);
    println!("MYSQL_FAULTS_SEED={seed}");
    let mut random = Random(seed);

    // Before and within the login.
    for round in 0..60 {
        let mut stream = TcpStream::connect(("127.0.0.1", house.proxy)).expect("the proxy listens");
        let length = random.below(200);
        let body = random.bytes(length);
        let bytes = match round % 4 {
            0 => body,
            1 => packet(body.len(), 1, &body),
            2 => packet(0xff_ffff, 1, &body),
            _ => packet(body.len() + 100, u8::try_from(round).expect("a byte"), &body),
        };
        // It may be thrown out before it has said all.
        let _ = stream.write_all(&bytes);
        rest(stream);
    }
    others_are_served(&house, keys, "broken logins");

    // Packets that are not what they say, within a transaction that has written: nothing of it stays.
    let query = |sql: &str| [&[3], sql.as_bytes()].concat();
    let write = query(&format!("UPDATE t SET note = 'spoilt' WHERE id = {}", keys[0]));
    let broken: Vec<(&str, Vec<u8>)> = vec![
        ("a packet that ends early", packet(write.len() + 5, 0, &write)),
        ("a wrong number", packet(write.len(), 7, &write)),
        ("nothing", packet(0, 0, &[])),
        ("too long", packet(0xff_ffff, 0, &write)),
        ("half a header", vec![9, 0]),
        ("a whole one and half of another", [whole(&query("SELECT 1")), packet(50, 0, &write)].concat()),
        ("the second part under a wrong number", {
            let mut first = packet(0xff_ffff, 0, &query("SELECT '"));
            first.resize(4 + 0xff_ffff, b'x');
            [first, packet(1, 9, b"'")].concat()
        }),
    ];
    for (what, bytes) in &broken {
        let mut client = house.client(BOTH);
        client.done("BEGIN").expect("it begins");
        client.done(&format!("UPDATE t SET note = 'spoilt' WHERE id = {}", keys[0])).expect("a row");
        let mut stream = client.into_stream();
        let _ = stream.write_all(bytes);
        rest(stream);
        others_are_served(&house, keys, what);
    }

    // Commands whose bodies are not theirs: each is answered once, or the session ends.
    let mut ended = 0;
    for command in 0..=u8::MAX {
        // COM_QUIT ends it, COM_PROCESS_INFO has rows, COM_STMT_SEND_LONG_DATA and COM_STMT_CLOSE have no answer.
        if [0x01, 0x0a, 0x18, 0x19].contains(&command) {
            continue;
        }
        for _ in 0..3 {
            let mut client = house.client(BOTH);
            let statement = client.prepare(&format!("SELECT note FROM t WHERE id = ? AND id = {}", keys[0]));
            let statement = statement.expect("it is prepared");
            let mut body = if random.below(2) == 0 {
                statement.prepared.statement.to_le_bytes()[..random.below(5)].to_vec()
            } else {
                Vec::new()
            };
            let more = random.below(30);
            body.extend(random.bytes(more));
            let context = format!("command {command:#x} with {body:?}");
            let first = client.payload(command, &body);
            match first {
                Ok(payload) => {
                    // What has rows would have said a number of columns: nothing here does.
                    let kind = payload.first().copied();
                    let field_list = command == 0x04;
                    assert!(
                        [Some(0), Some(0xff), Some(0xfe)].contains(&kind) || command == 0x09 || field_list,
                        "{context}: {payload:?}"
                    );
                    let answer = client.query(&format!("SELECT id, note FROM t WHERE id = {}", keys[1]));
                    assert_eq!(answer.len(), 1, "{context}: {answer:?}");
                    if !client.is_lost() {
                        assert_eq!(answer[0].rows.len(), 1, "{context}: {answer:?}");
                        // Statements that were prepared before are there, unless it was told to forget them.
                        if ![0x1f, 0x11].contains(&command) {
                            let rows = client.execute(&statement, &[Value::Long(keys[0])], crate::client::Types::Told);
                            assert_eq!(rows[0].error, None, "{context}");
                        }
                    } else {
                        ended += 1;
                    }
                }
                Err(_) => ended += 1,
            }
        }
    }
    println!("figure: {ended} sessions ended by a command");
    others_are_served(&house, keys, "broken commands");

    // Those without an answer: it comes with what is said next.
    let mut client = house.client(BOTH);
    for command in [0x18, 0x19] {
        for _ in 0..20 {
            let length = random.below(12);
            let body = random.bytes(length);
            client.send(&whole(&[&[command], &body[..]].concat())).expect("it is taken");
        }
    }
    assert_eq!(client.one("SELECT 7").value().as_deref(), Some("7"));

    // Commands that do not wait for answers get them in order.
    let many: Vec<u8> =
        (0..50).flat_map(|it| whole(&query(&format!("SELECT id, {it} FROM t WHERE id = {}", keys[it % 2])))).collect();
    client.send(&many).expect("they are taken");
    for it in 0..50 {
        let answer = client.hear();
        assert_eq!(answer.len(), 1, "{answer:?}");
        let expected = [keys[it % 2].to_string(), it.to_string()].map(|it| Some(it.into_bytes())).to_vec();
        assert_eq!(answer[0].rows, [expected], "{it}");
    }
    others_are_served(&house, keys, "commands without waiting");
}

#[test]
fn a_client_that_goes_leaves_nothing() {
    let house = House::build("size: 1, wait: 5s", "");
    let keys = house.keys();
    for key in keys {
        house.client(BOTH).done(&format!("INSERT INTO t VALUES ({key}, 1, 'kept')")).expect("a row");
    }
    for begin in ["BEGIN", "SET autocommit = 0"] {
        for politely in [true, false] {
            let mut client: Client = house.client(BOTH);
            client.done(begin).expect("it begins");
            client.done(&format!("UPDATE t SET note = 'spoilt' WHERE id = {}", keys[1])).expect("a row");
            if politely {
                client.quit().expect("it is let go");
            } else {
                drop(client);
            }
            others_are_served(&house, keys, begin);
        }
    }
    // One that hears nothing of its rows.
    let mut client = house.client(BOTH);
    let long = format!("SELECT REPEAT('x', 60000000) FROM t WHERE id = {}", keys[1]);
    client.send(&whole(&[&[3], long.as_bytes()].concat())).expect("it is taken");
    drop(client);
    others_are_served(&house, keys, "rows that nobody read");
}
