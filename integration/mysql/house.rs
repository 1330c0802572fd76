//! The servers, the proxy, and the rows that every case begins with.
//!
//! Three servers hold, for each number of shards, a database `dN` on the first N of them; the first holds beside it a
//! plain database `plainN` of the same tables, which hears the same statements. Rows are looked at on the servers themselves.

use std::collections::BTreeMap;

use shardway::local_cluster::Durability;
use shardway::local_cluster::mariadb::CONTROL_PASSWORD;
use shardway::local_cluster::mariadb::CONTROL_USER;
use shardway::local_cluster::mariadb::MariaCluster;
use shardway::local_cluster::mariadb::MariaSpec;
use shardway::local_cluster::mariadb::PASSWORD;
use shardway::local_cluster::mariadb::USER;

use crate::client::Client;
use crate::client::Row;
use crate::compare::shown;
use crate::proxy::Outcome;
use crate::proxy::Proxy;
use crate::proxy::free_port;
use crate::proxy::prepare_at;
use crate::proxy::until;

/// On how many shards everything is tried.
pub(crate) const WIDTHS: [usize; 3] = [1, 2, 3];

const SCHEMA: &str = "
CREATE TABLE t (id bigint PRIMARY KEY, a int, note varchar(20), made datetime, CHECK (note <> 'bad'));
CREATE TABLE items (id bigint, no int, what varchar(20) DEFAULT 'thing', price decimal(6,2) NOT NULL DEFAULT 1.50,
    PRIMARY KEY (id, no), KEY (what));
CREATE TABLE fruits (name varchar(36) CHARACTER SET ascii COLLATE ascii_nopad_bin PRIMARY KEY, n int unsigned, raw varbinary(20));
CREATE TABLE uuids (u uuid PRIMARY KEY, n int);
CREATE TABLE orders (id bigint AUTO_INCREMENT PRIMARY KEY, who int, note varchar(6) DEFAULT 'new');
CREATE TABLE parts (id bigint, no int AUTO_INCREMENT, what varchar(6), PRIMARY KEY (id, no), KEY (no));
CREATE TABLE refs (code varchar(10) PRIMARY KEY, n int);
CREATE TABLE tags (n int AUTO_INCREMENT PRIMARY KEY, v varchar(8) UNIQUE);
CREATE TABLE solo (n int AUTO_INCREMENT PRIMARY KEY, v varchar(8), e enum('a', 'b'), f double, bits bit(5), day date,
    at datetime(3), doc json);
CREATE TABLE kinds (id bigint PRIMARY KEY, ti tinyint unsigned, mi mediumint, bi bigint unsigned, de decimal(30,6), fl float,
    fd float(7,2), db double, yr year, da date, dt datetime(6), ts timestamp(3) NULL, tm time(2), bt bit(10), ch char(5),
    l1 varchar(20) CHARACTER SET latin1, tx text CHARACTER SET utf8mb4, u2 varchar(10) CHARACTER SET ucs2, bn binary(4),
    vb varbinary(10), bl blob, en enum('a', 'ö', ''), st set('x', 'y', 'z'), js json, ui uuid, ip inet6,
    ge bigint AS (id * 2) STORED, vi bigint AS (id + 1) VIRTUAL, KEY (l1), KEY (tx(5)));
";

const PLACED: &str = "    groups:
      number: {key: bigint, tables: {t: id, items: id, kinds: id, orders: id, parts: id}}
      name: {key: text, tables: {fruits: name}}
      unique: {key: uuid, tables: {uuids: u}}
    reference: [refs, tags]
    unsharded: {s1: [solo]}
";

/// Where a table's rows are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Placed {
    Spread,
    Everywhere,
    First,
}

/// Each table, and what every case finds there: rows as they stand in VALUES.
const TABLES: [(&str, Placed, &[&str]); 10] = [
    (
        "t",
        Placed::Spread,
        &[
            "(1, 10, 'one', '2020-01-01 10:00:00')",
            "(2, 20, 'two', NULL)",
            "(3, 30, NULL, '2020-02-29 23:59:59')",
            "(4, 40, 'four', NULL)",
            "(5, NULL, 'ö''\\\\', NULL)",
            "(6, 60, '', NULL)",
            "(7, 70, 'seven', NULL)",
            "(8, 80, 'eight', NULL)",
        ],
    ),
    (
        "items",
        Placed::Spread,
        &["(1, 1, 'pen', 1.10)", "(1, 2, 'ink', 20)", "(2, 1, NULL, 3)", "(3, 1, 'pad', 4.44)", "(5, 9, 'pen', 0)"],
    ),
    (
        "fruits",
        Placed::Spread,
        &["('apple', 1, 'a')", "('Apple', 2, x'00ff')", "('pear', 3, '')", "('fig', 4, NULL)", "('plum', 5, 'p')"],
    ),
    (
        "uuids",
        Placed::Spread,
        &[
            "('00000000-0000-0000-0000-000000000001', 1)",
            "('0b8e1a2c-3d4e-4f5a-8b6c-7d8e9f0a1b2c', 2)",
            "('ffffffff-ffff-ffff-ffff-ffffffffffff', 3)",
        ],
    ),
    (
        "kinds",
        Placed::Spread,
        &[
            "(1, 255, -8388608, 18446744073709551615, 123456789012345678901234.567891, 0.1, 12345.67, 0.1, 1999, '2020-02-29', \
             '2020-02-29 01:02:03.456789', '2021-10-31 02:30:00.500', '-838:59:59.99', b'1010101010', 'a', 'é', 'naïve 😀', \
             'ü', x'01', x'00ff', x'0001', 'ö', 'x,z', '{\"k\": [1, 2.5]}', '0b8e1a2c-3d4e-4f5a-8b6c-7d8e9f0a1b2c', '::1', \
             DEFAULT, DEFAULT)",
            "(2, 0, 0, 0, -0.000001, -3.4e38, -0.01, -2.2250738585072014e-308, 0, '0000-00-00', '0000-00-00 00:00:00', \
             '2021-10-31 01:30:00.500', '00:00:00', b'0', '', '', '', '', '', '', '', '', '', '[]', \
             'ffffffff-ffff-ffff-ffff-ffffffffffff', 'fe80::1', DEFAULT, DEFAULT)",
            "(3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, \
             NULL, NULL, NULL, NULL, NULL, NULL, NULL, DEFAULT, DEFAULT)",
            "(4, 7, 8388607, 9223372036854775808, 1, 16777217, 1.005, 1.7976931348623157e308, 2155, '2024-00-00', \
             '9999-12-31 23:59:59.999999', '0000-00-00 00:00:00', '12:34:56.78', b'11', 'b  ', 'É', 'NAÏVE 😀', 'Ü', \
             x'01000000', x'00ff', x'80', 'a', 'y', 'null', '00000000-0000-0000-0000-000000000001', '1:2::', DEFAULT, DEFAULT)",
            "(5, 7, 8388607, 1, 1, 1, 1, 1, 2001, '9999-12-31', '1000-01-01 00:00:00', '1970-01-02 00:00:01', '00:00:01', \
             b'1', 'B', 'e', 'naive 😀', 'u', x'02', 'A', 'text', 'a', 'x', '1', NULL, '::', DEFAULT, DEFAULT)",
        ],
    ),
    ("tags", Placed::Everywhere, &["(1, 'a')", "(2, 'b')"]),
    ("orders", Placed::Spread, &["(1, 5, 'a')", "(2, NULL, 'b')"]),
    ("parts", Placed::Spread, &["(1, 1, 'x')", "(2, 2, 'y')"]),
    ("refs", Placed::Everywhere, &["('de', 49)", "('fr', 33)", "('it', 39)"]),
    (
        "solo",
        Placed::First,
        &[
            "(1, 'x', 'a', 0.5, b'10101', '2020-02-29', '2020-02-29 01:02:03.456', '{\"k\": 1}')",
            "(2, NULL, 'b', -1e300, NULL, NULL, NULL, NULL)",
        ],
    ),
];

/// What the plain databases are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Against {
    /// The proxy, over as many shards as there are servers.
    Proxy,
    /// Another plain server: whatever is found then is a mistake of these tests.
    Plain,
}

/// Which capabilities a session has.
pub(crate) type Capabilities = u32;

pub(crate) struct House {
    // Ends before the servers do.
    proxy: Option<Proxy>,
    cluster: MariaCluster,
    port: u16,
}

/// All rows of all tables, sorted.
pub(crate) type Contents = BTreeMap<&'static str, Vec<Row>>;

/// A session of ours and one of the plain database beside it.
pub(crate) struct Pair {
    pub(crate) ours: Client,
    pub(crate) plain: Client,
}

/// Sessions of the servers themselves.
pub(crate) struct Direct {
    width: usize,
    through: u16,
    shards: Vec<Client>,
    plain: Client,
}

impl House {
    pub(crate) async fn build(against: Against) -> Outcome<Self> {
        Self::build_with(against, "DO 0").await
    }

    /// The same, where that is said to every server before anybody else speaks to it.
    pub(crate) async fn build_with(against: Against, first: &str) -> Outcome<Self> {
        let shards = if against == Against::Proxy { WIDTHS.len() } else { 2 };
        let durability = Durability::Volatile;
        let cluster =
            MariaCluster::start(MariaSpec { shards, replicas: 0, durability, ..MariaSpec::default() }).await?;
        for node in cluster.nodes() {
            node.value("", first).await?;
        }
        let house = Self { proxy: None, port: cluster.nodes()[shards - 1].port(), cluster };
        for width in WIDTHS {
            for port in house.shards(against, width) {
                house.make(port, &format!("d{width}")).await?;
            }
            house.make(house.cluster.nodes()[0].port(), &format!("plain{width}")).await?;
        }
        match against {
            Against::Plain => Ok(house),
            Against::Proxy => house.with_proxy().await,
        }
    }

    async fn make(&self, port: u16, database: &str) -> Outcome {
        let node = self.cluster.nodes().iter().find(|node| node.port() == port).ok_or("no such server")?;
        node.create_database(database).await?;
        Client::connect(port, USER, PASSWORD, database)?.done(SCHEMA)?;
        Ok(())
    }

    async fn with_proxy(mut self) -> Outcome<Self> {
        let port = free_port()?;
        let mut map = format!(
            "version: 1\nlisten: {{mysql: 127.0.0.1:{port}}}\nusers: {{{USER}: {{password: {PASSWORD}}}}}\ndatabases:\n"
        );
        for width in WIDTHS {
            let shards = self.shards(Against::Proxy, width);
            let shard = |(at, port): (usize, &u16)| format!("      s{}: ['127.0.0.1:{port}']\n", at + 1);
            let shards: String = shards.iter().enumerate().map(shard).collect();
            map += &format!(
                "  d{width}:\n    engine: mysql\n    local_files: allow\n    control: {{user: {CONTROL_USER}, password: {CONTROL_PASSWORD}}}\n    shards:\n{shards}{PLACED}"
            );
        }
        prepare_at(self.cluster.dir(), &map)?;
        let mut refusal = String::new();
        let answers = async || match Client::connect(port, USER, PASSWORD, "d1") {
            Ok(_) => true,
            Err(error) => {
                refusal = error.to_string();
                false
            }
        };
        let proxy = Proxy::start_when(self.cluster.dir(), port, &map, &[], answers).await;
        let proxy = proxy.map_err(|error| format!("{error}\nthe last login's error: {refusal}"))?;
        for width in WIDTHS {
            let mut last = String::new();
            // Its own error tells more than that something was waited for.
            let known = until("tables to be known", async || {
                let client = Client::connect(port, USER, PASSWORD, &format!("d{width}"));
                let answer = client.and_then(|mut client| client.done("SELECT a FROM t WHERE id = 1"));
                let known = answer.is_ok();
                last = answer.err().map(|error| error.to_string()).unwrap_or_default();
                Ok(known)
            });
            known.await.map_err(|error| format!("d{width}: {error}: {last}\n{}", proxy.log()))?;
        }
        for width in WIDTHS {
            until("shards that can take part in transactions over several", async || {
                let mut client = Client::connect(port, USER, PASSWORD, &format!("d{width}"))?;
                Ok(client.done("UPDATE t SET a = 1").is_ok())
            })
            .await?;
        }
        (self.proxy, self.port) = (Some(proxy), port);
        Ok(self)
    }

    /// The servers that `dN` is on.
    fn shards(&self, against: Against, width: usize) -> Vec<u16> {
        let all = self.cluster.primaries().map(|node| node.port());
        match against {
            Against::Proxy => all.take(width).collect(),
            Against::Plain => all.skip(1).collect(),
        }
    }

    fn against(&self) -> Against {
        if self.proxy.is_some() { Against::Proxy } else { Against::Plain }
    }

    /// Runs something as the plain server's superuser.
    pub(crate) async fn plain_server(&self, sql: &str) -> Outcome {
        self.cluster.nodes()[0].value("", sql).await?;
        Ok(())
    }

    /// What the proxy has said so far.
    pub(crate) fn log(&self) -> String {
        self.proxy.as_ref().map(Proxy::log).unwrap_or_default()
    }

    /// Where the proxy listens, and the plain server.
    pub(crate) fn ports(&self) -> [u16; 2] {
        [self.port, self.cluster.nodes()[0].port()]
    }

    pub(crate) fn pair(&self, width: usize, capabilities: Capabilities) -> Outcome<Pair> {
        let ours = Client::connect_with(self.port, USER, PASSWORD, &format!("d{width}"), capabilities)
            .map_err(|error| format!("our login to d{width}: {error}"))?;
        let [_, plain] = self.ports();
        let plain = Client::connect_with(plain, USER, PASSWORD, &format!("plain{width}"), capabilities)?;
        Ok(Pair { ours, plain })
    }

    /// Sessions of the servers of so many shards.
    pub(crate) fn servers(&self, width: usize) -> Outcome<Vec<Client>> {
        let shards = self.shards(self.against(), width).into_iter();
        Ok(shards.map(|port| Client::connect(port, USER, PASSWORD, "")).collect::<Result<_, _>>()?)
    }

    pub(crate) fn direct(&self, width: usize) -> Outcome<Direct> {
        let database = format!("d{width}");
        let shards = self.shards(self.against(), width);
        let shards = shards.into_iter().map(|port| Client::connect(port, USER, PASSWORD, &database));
        let shards = shards.collect::<Result<Vec<_>, _>>()?;
        let plain = Client::connect(self.cluster.nodes()[0].port(), USER, PASSWORD, &format!("plain{width}"))?;
        Ok(Direct { width, through: self.port, shards, plain })
    }

    pub(crate) async fn stop(self) -> Outcome {
        if let Some(proxy) = self.proxy {
            proxy.stop().await?;
        }
        Ok(self.cluster.stop().await?)
    }
}

impl Direct {
    /// Fills all tables anew. What is spread goes through the proxy a row at a time, so that it lies where the proxy looks
    /// for it.
    pub(crate) fn fill(&mut self) -> Outcome {
        for client in self.shards.iter_mut().chain([&mut self.plain]) {
            let deletes: Vec<String> = TABLES.iter().map(|(table, ..)| format!("DELETE FROM {table}")).collect();
            client.done(&deletes.join(";"))?;
            client.done("ALTER TABLE solo AUTO_INCREMENT = 1")?;
            client.done("ALTER TABLE tags AUTO_INCREMENT = 1")?;
        }
        let mut ours = Client::connect(self.through, USER, PASSWORD, &format!("d{}", self.width))?;
        for (table, placed, rows) in TABLES {
            let all = format!("INSERT INTO {table} VALUES {}", rows.join(", "));
            self.plain.done(&all)?;
            match placed {
                Placed::Spread => {
                    for row in rows {
                        ours.done(&format!("INSERT INTO {table} VALUES {row}"))
                            .map_err(|error| format!("rows of {table} cannot be brought: {error}"))?;
                    }
                }
                Placed::Everywhere => {
                    for shard in &mut self.shards {
                        shard.done(&all)?;
                    }
                }
                Placed::First => {
                    self.shards[0].done(&all)?;
                }
            }
        }
        match self.difference()? {
            None => Ok(()),
            Some(difference) => Err(format!("rows are not as they were brought: {difference}").into()),
        }
    }

    /// What the plain server holds.
    pub(crate) fn contents(&mut self) -> Outcome<Contents> {
        let mut contents = Contents::new();
        for (table, ..) in TABLES {
            contents.insert(table, rows(&mut self.plain, table)?);
        }
        Ok(contents)
    }

    /// The first table that is not the same on both sides.
    pub(crate) fn difference(&mut self) -> Outcome<Option<String>> {
        for (table, placed, _) in TABLES {
            let theirs = rows(&mut self.plain, table)?;
            let mut ours = Vec::new();
            for (place, shard) in self.shards.iter_mut().enumerate() {
                let held = rows(shard, table)?;
                let name = format!("{table} on shard {}", place + 1);
                match placed {
                    Placed::Spread => ours.extend(held),
                    Placed::Everywhere if held == theirs => ours = held,
                    Placed::First if place == 0 => ours = held,
                    Placed::First if held.is_empty() => {}
                    Placed::Everywhere | Placed::First => {
                        return Ok(Some(format!("{name}: {} where one server has {}", shown(&held), shown(&theirs))));
                    }
                }
            }
            ours.sort();
            if ours != theirs {
                return Ok(Some(format!("table {table}: {} where one server has {}", shown(&ours), shown(&theirs))));
            }
        }
        Ok(None)
    }

    /// Runs something on the plain server only, behind the tests' back.
    pub(crate) fn plainly(&mut self, sql: &str) -> Outcome {
        self.plain.done(sql)?;
        Ok(())
    }
}

fn rows(client: &mut Client, table: &str) -> Outcome<Vec<Row>> {
    let mut rows = client.done(&format!("SELECT * FROM {table}"))?.rows;
    rows.sort();
    Ok(rows)
}
