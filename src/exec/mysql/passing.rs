//! One server's answer on its way to the client, taken up as it arrives: what `relay::pass` does, without a future of its own.

use std::task::Context;
use std::task::Poll;
use std::task::ready;

use crate::exec::mysql::Client;
use crate::exec::mysql::Link;
use crate::exec::mysql::relay;
use crate::exec::mysql::relay::Broken;
use crate::exec::mysql::relay::Ended;
use crate::exec::mysql::relay::Face;
use crate::wire::mysql::capability;
use crate::wire::mysql::frame::Packet;
use crate::wire::mysql::result::First;
use crate::wire::mysql::result::ends_rows;
use crate::wire::mysql::result::read_end_of_rows;

/// How far an answer has come.
#[derive(Debug)]
pub struct Passing {
    stage: Stage,
    /// Rows that have begun.
    count: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// What answers the command is still to come.
    First,
    /// So many columns are.
    Columns(u64),
    /// What ends the columns is.
    EndOfColumns,
    /// Rows, or their end.
    Rows,
    /// The rest of a row.
    WithinRow,
}

impl Passing {
    /// Nothing has come yet.
    #[must_use]
    pub fn new() -> Self {
        Self { stage: Stage::First, count: 0 }
    }

    /// Sends what was said on the link, and passes its answer on to the client. Ready: it has ended, and what is left of it
    /// is gathered for the client.
    pub fn poll(&mut self, cx: &mut Context<'_>, link: &mut Link, client: &mut Client) -> Poll<Result<Ended, Broken>> {
        ready!(link.connection.poll_flush(cx)).map_err(|error| Broken::Server(error.to_string()))?;
        loop {
            if client.is_full() && !client.is_among_columns() {
                ready!(client.poll_flush(cx)).map_err(Broken::Client)?;
            }
            let packet = match link.connection.poll_packet(cx) {
                Poll::Ready(packet) => packet.map_err(|error| Broken::Server(error.to_string())),
                // Waited for as long as the client is there.
                Poll::Pending => Err(Broken::Client(ready!(client.poll_gone(cx)))),
            };
            match packet.and_then(|it| self.take(&it, link, client)) {
                Ok(None) => {}
                Ok(Some(ended)) => return Poll::Ready(Ok(ended)),
                Err(broken) => {
                    client.take_back_columns();
                    return Poll::Ready(Err(broken));
                }
            }
        }
    }

    fn take(&mut self, packet: &Packet, link: &mut Link, client: &mut Client) -> Result<Option<Ended>, Broken> {
        let capabilities = link.connection.capabilities;
        let face = Face::default();
        let body = link.connection.bytes(packet.body.clone());
        match self.stage {
            Stage::First => {
                if packet.goes_on {
                    return Err(Broken::Server("begins an answer with a payload that is too long".to_owned()));
                }
                match First::read(body, capabilities).map_err(|error| Broken::Server(error.to_string()))? {
                    First::Done(done) => {
                        link.connection.consume(packet);
                        link.connection.status = done.status;
                        let ended = relay::tell_done(link, client, done, |it| face.passing(it), None);
                        return Ok(Some(ended).filter(|it| !relay::more_follows(it)));
                    }
                    First::Failed(failure) => {
                        link.connection.consume(packet);
                        client.put_failure(&failure);
                        return Ok(Some(Ended::Failed(failure)));
                    }
                    First::File(_) => return Err(Broken::Server("asks for a file of the client's".to_owned())),
                    First::Columns(count) => {
                        client.begin_columns();
                        self.count = 0;
                        client.put_packet(body);
                        link.connection.consume(packet);
                        self.stage = Stage::Columns(count);
                    }
                }
            }
            Stage::Columns(left) => {
                client.put_packet(body);
                link.connection.consume(packet);
                self.stage = Stage::Columns(left - u64::from(!packet.goes_on));
            }
            Stage::EndOfColumns => {
                let flags = read_end_of_rows(body).map_err(|error| Broken::Server(error.to_string()))?.1;
                link.connection.consume(packet);
                self.rows_follow(client, face.passing(flags));
            }
            Stage::Rows if body.first() == Some(&0xff) => {
                let failure = relay::failure(body)?;
                link.connection.consume(packet);
                client.put_failure(&failure);
                return Ok(Some(Ended::Failed(failure)));
            }
            Stage::Rows if !packet.goes_on && ends_rows(body, capabilities) => {
                let (warnings, status) = relay::end_rows(link, packet)?;
                client.end_rows(warnings, face.passing(status));
                self.stage = Stage::First;
                let ended = Ended::Rows { count: self.count, status, warnings };
                return Ok(Some(ended).filter(|it| !relay::more_follows(it)));
            }
            Stage::Rows | Stage::WithinRow => {
                client.put_packet(body);
                link.connection.consume(packet);
                self.count += u64::from(self.stage == Stage::Rows);
                client.within_payload = packet.goes_on;
                self.stage = if packet.goes_on { Stage::WithinRow } else { Stage::Rows };
            }
        }
        if self.stage == Stage::Columns(0) {
            match capabilities & capability::DEPRECATE_EOF {
                0 => self.stage = Stage::EndOfColumns,
                _ => self.rows_follow(client, face.passing(link.connection.status)),
            }
        }
        Ok(None)
    }

    fn rows_follow(&mut self, client: &mut Client, status: u16) {
        client.end_columns(status);
        self.stage = Stage::Rows;
    }
}

impl Default for Passing {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;

    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::backend::mysql::pair;
    use crate::ident::NodeId;
    use crate::ident::ShardId;
    use crate::net::Stream;
    use crate::topology::Serving;
    use crate::wire::mysql::frame;
    use crate::wire::mysql::result::Column;
    use crate::wire::mysql::result::Done;
    use crate::wire::mysql::result::Failure;
    use crate::wire::mysql::result::column_count;
    use crate::wire::mysql::result::end_of_rows;
    use crate::wire::mysql::status;

    /// What a server says, in its manner.
    struct Server {
        capabilities: u32,
        payloads: Vec<Vec<u8>>,
    }

    impl Server {
        fn done(mut self, done: &Done) -> Self {
            self.payloads.push(done.payload(0, self.capabilities));
            self
        }

        fn failed(mut self) -> Self {
            let failure = Failure { number: 1317, sqlstate: "70100".into(), message: "interrupted".into() };
            self.payloads.push(failure.payload());
            self
        }

        /// Columns and rows without their end.
        fn rows(mut self, columns: usize, rows: &[&[u8]]) -> Self {
            self.payloads.push(column_count(columns as u64));
            let column = Column { name: b"c".to_vec(), ..Column::default() };
            self.payloads.extend((0..columns).map(|_| column.payload()));
            if self.capabilities & capability::DEPRECATE_EOF == 0 {
                self.payloads.push(end_of_rows(0, status::AUTOCOMMIT).to_vec());
            }
            self.payloads.extend(rows.iter().map(|it| it.to_vec()));
            self
        }

        fn end(mut self, done: &Done) -> Self {
            self.payloads.push(match self.capabilities & capability::DEPRECATE_EOF {
                0 => end_of_rows(done.warnings, done.status).to_vec(),
                _ => done.payload(0xfe, self.capabilities),
            });
            self
        }

        fn bytes(&self) -> Vec<u8> {
            let mut bytes = Vec::new();
            self.payloads.iter().fold(1, |sequence, it| frame::put(&mut bytes, sequence, it));
            bytes
        }
    }

    fn answers(capabilities: u32) -> Vec<Server> {
        let server = || Server { capabilities, payloads: Vec::new() };
        let done = Done { affected: 3, insert_id: 300, status: status::AUTOCOMMIT, ..Done::default() };
        let more = Done { status: status::AUTOCOMMIT | status::MORE_RESULTS, warnings: 2, ..Done::default() };
        let mut changed = Done { info: b"Records: 3".to_vec(), ..done.clone() };
        if capabilities & capability::SESSION_TRACK != 0 {
            changed.status |= status::STATE_CHANGED;
            changed.changes = b"\x00\x0f\x0aautocommit\x03OFF".to_vec();
        }
        let (plain, long) = ([&b"\x011"[..], b"\xfb", b"\x02ab"], vec![7; frame::PACKET_MAX + 9]);
        vec![
            server().done(&done),
            server().done(&changed),
            server().failed(),
            server().rows(1, &plain).end(&done),
            server().rows(2, &[]).end(&changed),
            server().rows(1, &plain).failed(),
            server().rows(300, &plain).end(&Done { warnings: 5, ..done.clone() }),
            server().rows(1, &plain).end(&more).done(&more).rows(1, &plain).end(&done),
            server().rows(1, &[&long, b"\x011"]).end(&done),
        ]
    }

    /// What a client hears of an answer that comes in pieces, and what is known of it then; by the long way or not.
    async fn heard(bytes: Vec<u8>, capabilities: [u32; 2], piece: usize, long: bool) -> (Vec<u8>, String) {
        let (connection, mut server) = pair(piece, capabilities[0]);
        let node = NodeId { shard: ShardId(0), node: 0 };
        let mut link = Link::new(node, Box::new(connection), Serving::nowhere(), false);
        let (ours, mut theirs) = Stream::memory(1 << 26);
        let mut client = Client::new(ours, &[], capabilities[1], 1, 1 << 20);
        link.connection.say(b"\x03SELECT 1");
        let other = async {
            let mut asked = vec![0; 4 + 9];
            server.read_exact(&mut asked).await.unwrap();
            server.write_all(&bytes).await.unwrap();
            drop(server);
        };
        let passed = async {
            poll_fn(|cx| link.connection.poll_flush(cx)).await.unwrap();
            let ended = if long {
                relay::pass(&mut link, &mut client, Face::default()).await
            } else {
                let mut passing = Passing::new();
                poll_fn(|cx| passing.poll(cx, &mut link, &mut client)).await
            };
            // Of a server that breaks off it takes no more.
            (ended, link, client)
        };
        let ((), (ended, link, mut client)) = tokio::join!(other, passed);
        client.flush().await.unwrap();
        let state = format!("{ended:?} {} {} {}", link.connection.status, link.doubtful, client.within_payload);
        drop(client);
        let mut told = Vec::new();
        theirs.read_to_end(&mut told).await.unwrap();
        (told, state)
    }

    #[tokio::test]
    async fn a_client_hears_the_same_as_by_the_long_way() {
        let eof = [0, capability::DEPRECATE_EOF];
        for of_server in [0, capability::DEPRECATE_EOF, capability::DEPRECATE_EOF | capability::SESSION_TRACK] {
            for of_client in eof {
                for (number, answer) in answers(of_server).iter().enumerate() {
                    let (bytes, capabilities) = (answer.bytes(), [of_server, of_client]);
                    let large = bytes.len() > 1 << 20;
                    for piece in if large { vec![1 << 20] } else { vec![1 << 20, 1, 7] } {
                        let wanted = heard(bytes.clone(), capabilities, piece, true).await;
                        let found = heard(bytes.clone(), capabilities, piece, false).await;
                        assert!(found == wanted, "answer {number}, {capabilities:?}: {} for {}", found.1, wanted.1);
                    }
                    // The server hangs up somewhere.
                    let cuts = match large {
                        true => vec![100, bytes.len() - 12, bytes.len() - 3],
                        false => (0..bytes.len()).step_by(1 + bytes.len() / 300).collect::<Vec<_>>(),
                    };
                    for cut in cuts {
                        let part = bytes.get(..cut).unwrap().to_vec();
                        let wanted = heard(part.clone(), capabilities, 1 << 26, true).await;
                        let found = heard(part, capabilities, 1 << 26, false).await;
                        assert!(found == wanted, "answer {number} cut at {cut}: {} for {}", found.1, wanted.1);
                    }
                }
            }
        }
    }

    /// Lets it take in all that is there, and drops it.
    async fn give_up<T>(work: impl Future<Output = T>) {
        let mut work = pin!(work);
        for _ in 0..1000 {
            assert!(poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx).is_pending())).await, "it has ended");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_is_given_up_among_columns_fails_in_their_place() {
        let failure = Failure { number: 1969, sqlstate: "70100".into(), message: "it took too long".into() };
        let answer = Server { capabilities: 0, payloads: Vec::new() }.rows(3, &[]);
        let long_column = Column { name: vec![b'c'; frame::PACKET_MAX], ..Column::default() };
        let mut half = Vec::new();
        frame::put(&mut half, 1, &column_count(2));
        frame::put(&mut half, 2, &long_column.payload());
        // Behind the count, behind some columns, and within one.
        for part in [&answer.bytes()[..5], &answer.bytes()[..60], &half[..half.len() - 20]] {
            for long in [true, false] {
                let (connection, mut server) = pair(1 << 26, 0);
                let node = NodeId { shard: ShardId(0), node: 0 };
                let mut link = Link::new(node, Box::new(connection), Serving::nowhere(), false);
                let (ours, mut theirs) = Stream::memory(1 << 26);
                let mut client = Client::new(ours, &[], 0, 1, 1 << 20);
                server.write_all(part).await.unwrap();
                link.connection.say(b"\x03SELECT 1");
                link.flush().await.unwrap();
                if long {
                    give_up(relay::pass(&mut link, &mut client, Face::default())).await;
                } else {
                    let mut passing = Passing::new();
                    give_up(poll_fn(|cx| passing.poll(cx, &mut link, &mut client))).await;
                }
                assert!(client.is_among_columns());
                assert!(!client.within_payload, "something else may be said");
                client.put_failure(&failure);
                client.flush().await.unwrap();
                drop(client);
                let (mut told, mut wanted) = (Vec::new(), Vec::new());
                theirs.read_to_end(&mut told).await.unwrap();
                frame::put(&mut wanted, 1, &failure.payload());
                assert!(told == wanted, "behind {} bytes, {long}", part.len());
            }
        }
    }
}
