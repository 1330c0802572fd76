//! One client: the five transactions of TPC-C as an application writes them, and an account of how each attempt ended.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;
use shardway::clock;
use shardway::clock::Tick;
use shardway::tasks;
use tokio::time::timeout;
use tokio_postgres::Client;
use tokio_postgres::NoTls;
use tokio_postgres::Row;
use tokio_postgres::Statement;
use tokio_postgres::types::ToSql;

use crate::shard;
use crate::tables;

/// Nothing may take longer, not even while a shard is away.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// What an application sets where two transactions may wait for each other on two servers.
const LOCK_WAIT: &str = "SET lock_timeout = '3s'";

type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    NewOrder,
    Payment,
    OrderStatus,
    Delivery,
    StockLevel,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] =
        [Self::NewOrder, Self::Payment, Self::OrderStatus, Self::Delivery, Self::StockLevel];
}

/// How an attempt ended, as far as its client can know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Fate {
    Done,
    NotDone,
    Unknown,
}

/// What every client needs to know.
pub(crate) struct Run {
    port: u16,
    warehouses: Vec<i32>,
    end: Tick,
}

impl Run {
    pub(crate) fn new(port: u16, warehouses: Vec<i32>, end: Tick) -> Self {
        Self { port, warehouses, end }
    }
}

/// What clients know of what they did.
#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) counts: BTreeMap<(Kind, Fate), u64>,
    pub(crate) spans: BTreeMap<Kind, Vec<Duration>>,
    /// Mark → amount and fate.
    pub(crate) payments: HashMap<i64, (i64, Fate)>,
    /// Mark → fate.
    pub(crate) orders: HashMap<i64, Fate>,
    /// Orders delivered by transactions that were done, and by those of which nobody knows.
    pub(crate) delivered: i64,
    pub(crate) perhaps_delivered: i64,
    /// Transactions that were done on several shards.
    pub(crate) crossing: u64,
    pub(crate) rolled_back: u64,
    /// Attempts that failed because a server was away.
    pub(crate) lost: u64,
    pub(crate) errors: BTreeMap<String, u64>,
    /// What must not be.
    pub(crate) wrong: Vec<String>,
}

impl Ledger {
    pub(crate) fn add(&mut self, other: Self) {
        for (key, count) in other.counts {
            *self.counts.entry(key).or_default() += count;
        }
        for (kind, spans) in other.spans {
            self.spans.entry(kind).or_default().extend(spans);
        }
        for (error, count) in other.errors {
            *self.errors.entry(error).or_default() += count;
        }
        self.payments.extend(other.payments);
        self.orders.extend(other.orders);
        self.delivered += other.delivered;
        self.perhaps_delivered += other.perhaps_delivered;
        self.crossing += other.crossing;
        self.rolled_back += other.rolled_back;
        self.lost += other.lost;
        self.wrong.extend(other.wrong);
    }

    pub(crate) fn done(&self, kind: Kind) -> u64 {
        self.counts.get(&(kind, Fate::Done)).copied().unwrap_or_default()
    }
}

/// Why a transaction did not come to its COMMIT.
enum Stop {
    Error(tokio_postgres::Error),
    /// The customer changed their mind.
    OnPurpose,
    /// What must not be.
    Wrong(String),
}

impl From<tokio_postgres::Error> for Stop {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Error(error)
    }
}

/// What an attempt wrote.
#[derive(Default)]
struct Done {
    mark: i64,
    amount: i64,
    delivered: i64,
    /// It wrote on several shards.
    crosses: bool,
}

/// A connection and what was prepared on it.
struct Connection {
    client: Client,
    known: HashMap<String, Statement>,
}

impl Connection {
    async fn open(port: u16) -> Result<Self, tokio_postgres::Error> {
        let login = format!("host=127.0.0.1 port={port} user=demo dbname=shop application_name=terminal");
        let (client, connection) = tokio_postgres::connect(&login, NoTls).await?;
        tasks::shared("tokio-postgres", connection);
        client.batch_execute(LOCK_WAIT).await?;
        Ok(Self { client, known: HashMap::new() })
    }

    async fn rows(&mut self, sql: &str, values: Values<'_>) -> Result<Vec<Row>, Stop> {
        let late = || Stop::Wrong(format!("no answer within {ANSWER_MAX:?}: {sql}"));
        let answer = async {
            let statement = match self.known.get(sql) {
                Some(statement) => statement.clone(),
                None => {
                    let statement = self.client.prepare(sql).await?;
                    self.known.insert(sql.to_owned(), statement.clone());
                    statement
                }
            };
            self.client.query(&statement, values).await
        };
        Ok(timeout(ANSWER_MAX, answer).await.map_err(|_| late())??)
    }

    async fn row(&mut self, sql: &str, values: Values<'_>) -> Result<Row, Stop> {
        let mut rows = self.rows(sql, values).await?;
        match (rows.pop(), rows.is_empty()) {
            (Some(row), true) => Ok(row),
            (row, _) => Err(Stop::Wrong(format!("{} rows: {sql}", rows.len() + usize::from(row.is_some())))),
        }
    }

    async fn say(&mut self, sql: &str) -> Result<(), Stop> {
        let said = timeout(ANSWER_MAX, self.client.batch_execute(sql)).await;
        Ok(said.map_err(|_| Stop::Wrong(format!("no answer within {ANSWER_MAX:?}: {sql}")))??)
    }
}

pub(crate) struct Terminal {
    run: Arc<Run>,
    dice: StdRng,
    ledger: Ledger,
    /// The next attempt's.
    mark: i64,
}

impl Terminal {
    pub(crate) fn new(run: Arc<Run>, id: u64, seed: u64) -> Self {
        let mark = i64::try_from(id + 1).unwrap_or(i64::MAX) << 32;
        Self { run, dice: StdRng::seed_from_u64(seed), ledger: Ledger::default(), mark }
    }

    /// Works until the run is over.
    pub(crate) async fn work(mut self) -> Ledger {
        let mut connection = None;
        while self.run.end.since(clock::now()) > Duration::ZERO && self.ledger.wrong.is_empty() {
            let mut open = match connection.take() {
                Some(open) => open,
                None => match Connection::open(self.run.port).await {
                    Ok(open) => open,
                    Err(error) => {
                        self.failed("connecting", &error);
                        continue;
                    }
                },
            };
            let kind = match self.dice.random_range(0..100) {
                0..45 => Kind::NewOrder,
                45..88 => Kind::Payment,
                88..92 => Kind::OrderStatus,
                92..96 => Kind::Delivery,
                _ => Kind::StockLevel,
            };
            if self.attempt(&mut open, kind).await && !open.client.is_closed() {
                connection = Some(open);
            }
        }
        self.ledger
    }

    /// One transaction; whether the connection can go on.
    async fn attempt(&mut self, open: &mut Connection, kind: Kind) -> bool {
        let begun = clock::now();
        self.mark += 1;
        let mut done = Done { mark: self.mark, ..Done::default() };
        let ran = self.transaction(open, kind, &mut done).await;
        let (fate, goes_on) = match ran {
            Ok(()) => match open.say("COMMIT").await {
                Ok(()) => (Fate::Done, true),
                Err(Stop::Error(error)) => {
                    self.failed("COMMIT", &error);
                    match error.code().map(|it| it.code()) {
                        None | Some("08007") => (Fate::Unknown, true),
                        Some(_) => (Fate::NotDone, true),
                    }
                }
                Err(stop) => {
                    self.note(stop);
                    (Fate::Unknown, false)
                }
            },
            Err(stop) => {
                self.note(stop);
                (Fate::NotDone, open.say("ROLLBACK").await.is_ok())
            }
        };
        self.book(kind, fate, &done);
        if fate == Fate::Done {
            self.ledger.spans.entry(kind).or_default().push(clock::now().since(begun));
        }
        goes_on
    }

    fn book(&mut self, kind: Kind, fate: Fate, done: &Done) {
        *self.ledger.counts.entry((kind, fate)).or_default() += 1;
        self.ledger.crossing += u64::from(done.crosses && fate == Fate::Done);
        match (kind, fate) {
            (Kind::Payment, _) => drop(self.ledger.payments.insert(done.mark, (done.amount, fate))),
            (Kind::NewOrder, _) => drop(self.ledger.orders.insert(done.mark, fate)),
            (Kind::Delivery, Fate::Done) => self.ledger.delivered += done.delivered,
            (Kind::Delivery, Fate::Unknown) => self.ledger.perhaps_delivered += done.delivered,
            _ => {}
        }
    }

    fn note(&mut self, stop: Stop) {
        match stop {
            Stop::Error(error) => self.failed("a statement", &error),
            Stop::OnPurpose => self.ledger.rolled_back += 1,
            Stop::Wrong(what) => self.ledger.wrong.push(what),
        }
    }

    /// Counts an error; one that no restart explains is wrong.
    fn failed(&mut self, at: &str, error: &tokio_postgres::Error) {
        let (code, text) = match error.as_db_error() {
            Some(it) => (it.code().code(), it.message().to_owned()),
            None => ("", error.to_string()),
        };
        *self.ledger.errors.entry(format!("{at}: {code} {text}")).or_default() += 1;
        match code {
            // Done by another transaction's being in the way.
            "40P01" | "55P03" => {}
            "40001" | "08006" | "08007" | "57P01" | "57P03" | "" => self.ledger.lost += 1,
            _ => {
                let hint = error.as_db_error().and_then(|it| it.hint()).unwrap_or_default();
                self.ledger.wrong.push(format!("{at}: {code} {text} ({hint})"));
            }
        }
    }

    async fn transaction(&mut self, open: &mut Connection, kind: Kind, done: &mut Done) -> Result<(), Stop> {
        open.say("BEGIN").await?;
        match kind {
            Kind::NewOrder => self.new_order(open, done).await,
            Kind::Payment => self.payment(open, done).await,
            Kind::OrderStatus => self.order_status(open).await,
            Kind::Delivery => self.delivery(open, done).await,
            Kind::StockLevel => self.stock_level(open).await,
        }
    }

    fn warehouse(&mut self) -> i32 {
        self.run.warehouses[self.dice.random_range(0..self.run.warehouses.len())]
    }

    fn other_warehouse(&mut self, than: i32) -> i32 {
        loop {
            let other = self.warehouse();
            if other != than {
                return other;
            }
        }
    }

    fn district(&mut self) -> i32 {
        self.dice.random_range(1..=tables::DISTRICTS)
    }

    /// Some more often than others, as NURand has it.
    fn uneven(&mut self, a: i32, from: i32, to: i32) -> i32 {
        let (x, y) = (self.dice.random_range(0..=a), self.dice.random_range(from..=to));
        ((x | y) + a / 2) % (to - from + 1) + from
    }

    async fn new_order(&mut self, open: &mut Connection, done: &mut Done) -> Result<(), Stop> {
        let (w, d, c) = (self.warehouse(), self.district(), self.uneven(31, 1, tables::CUSTOMERS));
        let count = self.dice.random_range(5..=15);
        let changes_mind = self.dice.random_range(0..100) == 0;
        let mut lines: Vec<(i32, i32, i32)> = Vec::new();
        while lines.len() < count {
            let item = self.uneven(255, 1, tables::ITEMS);
            let supply = if self.dice.random_range(0..100) == 0 { self.other_warehouse(w) } else { w };
            if lines.iter().all(|(it, _, _)| *it != item) {
                lines.push((item, supply, self.dice.random_range(1..=10)));
            }
        }
        if changes_mind && let Some(last) = lines.last_mut() {
            last.0 = tables::ITEMS + 1;
        }
        done.crosses = lines.iter().any(|(_, supply, _)| shard(*supply) != shard(w));
        let tax: i32 = open.row("SELECT w_tax FROM warehouse WHERE w_id = $1", &[&w]).await?.get(0);
        let locked = open
            .row("SELECT d_next_o_id, d_tax FROM district WHERE d_w_id = $1 AND d_id = $2 FOR UPDATE", &[&w, &d])
            .await?;
        let (o, d_tax): (i32, i32) = (locked.get(0), locked.get(1));
        open.rows("UPDATE district SET d_next_o_id = d_next_o_id + 1 WHERE d_w_id = $1 AND d_id = $2", &[&w, &d])
            .await?;
        let customer = open
            .row(
                "SELECT c_discount, c_last, c_credit FROM customer WHERE c_w_id = $1 AND c_d_id = $2 AND c_id = $3",
                &[&w, &d, &c],
            )
            .await?;
        let discount: i32 = customer.get(0);
        let (all_local, lines_count) =
            (lines.iter().all(|(_, supply, _)| *supply == w), i32::try_from(count).unwrap_or(0));
        open.rows(
            "INSERT INTO orders (o_w_id, o_d_id, o_id, o_c_id, o_entry_d, o_ol_cnt, o_all_local, o_mark) \
             VALUES ($1, $2, $3, $4, now(), $5, $6, $7)",
            &[&w, &d, &o, &c, &lines_count, &all_local, &done.mark],
        )
        .await?;
        open.rows("INSERT INTO new_order (no_w_id, no_d_id, no_o_id) VALUES ($1, $2, $3)", &[&w, &d, &o]).await?;
        let wanted: Vec<i32> = lines.iter().map(|(item, _, _)| *item).collect();
        let prices: HashMap<i32, i64> = open
            .rows("SELECT i_id, i_price FROM item WHERE i_id = ANY ($1)", &[&wanted])
            .await?
            .iter()
            .map(|row| (row.get(0), row.get(1)))
            .collect();
        let mut amounts = Vec::new();
        let mut infos: Vec<String> = Vec::new();
        for (item, supply, quantity) in &lines {
            let Some(price) = prices.get(item) else { return Err(Stop::OnPurpose) };
            let stock = open
                .row(
                    "SELECT s_quantity, s_dist, s_data FROM stock WHERE s_w_id = $1 AND s_i_id = $2 FOR UPDATE",
                    &[supply, item],
                )
                .await?;
            let left: i32 = stock.get(0);
            let left = if left >= quantity + 10 { left - quantity } else { left - quantity + 91 };
            let remote = i32::from(*supply != w);
            open.rows(
                "UPDATE stock SET s_quantity = $3, s_ytd = s_ytd + $4, s_order_cnt = s_order_cnt + 1, \
                 s_remote_cnt = s_remote_cnt + $5 WHERE s_w_id = $1 AND s_i_id = $2",
                &[supply, item, &left, &i64::from(*quantity), &remote],
            )
            .await?;
            let full = i64::from(*quantity) * price;
            amounts.push(full * i64::from(10_000 + tax + d_tax) / 10_000 * i64::from(10_000 - discount) / 10_000);
            infos.push(stock.get(1));
        }
        self.insert_lines(open, (w, d, o), &lines, &amounts, &infos).await
    }

    /// All lines of an order by one INSERT.
    async fn insert_lines(
        &mut self,
        open: &mut Connection,
        (w, d, o): (i32, i32, i32),
        lines: &[(i32, i32, i32)],
        amounts: &[i64],
        infos: &[String],
    ) -> Result<(), Stop> {
        let numbers: Vec<i32> = (1..).take(lines.len()).collect();
        let mut values: Vec<&(dyn ToSql + Sync)> = vec![&w, &d, &o];
        let mut rows = Vec::new();
        for (place, (item, supply, quantity)) in lines.iter().enumerate() {
            let first = values.len() + 1;
            rows.push(format!(
                "($1, $2, $3, ${first}, ${}, ${}, ${}, ${}, ${})",
                first + 1,
                first + 2,
                first + 3,
                first + 4,
                first + 5
            ));
            let line: [&(dyn ToSql + Sync); 6] =
                [&numbers[place], item, supply, quantity, &amounts[place], &infos[place]];
            values.extend(line);
        }
        let sql = format!(
            "INSERT INTO order_line (ol_w_id, ol_d_id, ol_o_id, ol_number, ol_i_id, ol_supply_w_id, ol_quantity, ol_amount, \
             ol_dist_info) VALUES {}",
            rows.join(", ")
        );
        open.rows(&sql, &values).await.map(drop)
    }

    /// A customer by number or, more often, by last name: the one in the middle.
    async fn customer(&mut self, open: &mut Connection, w: i32, d: i32) -> Result<i32, Stop> {
        if self.dice.random_range(0..100) < 40 {
            return Ok(self.uneven(31, 1, tables::CUSTOMERS));
        }
        let last = format!("last {}", self.uneven(7, 0, tables::NAMES - 1));
        let found = open
            .rows(
                "SELECT c_id FROM customer WHERE c_w_id = $1 AND c_d_id = $2 AND c_last = $3 ORDER BY c_first",
                &[&w, &d, &last],
            )
            .await?;
        let middle = found.get(found.len().saturating_sub(1) / 2);
        middle.map(|row| row.get(0)).ok_or_else(|| Stop::Wrong(format!("nobody is called {last} in {w}/{d}")))
    }

    async fn payment(&mut self, open: &mut Connection, done: &mut Done) -> Result<(), Stop> {
        let (w, d) = (self.warehouse(), self.district());
        let remote = self.dice.random_range(0..100) < 15;
        let (cw, cd) = if remote { (self.other_warehouse(w), self.district()) } else { (w, d) };
        let amount: i64 = self.dice.random_range(100..=500_000);
        (done.amount, done.crosses) = (amount, shard(cw) != shard(w));
        let warehouse = open
            .row("UPDATE warehouse SET w_ytd = w_ytd + $2 WHERE w_id = $1 RETURNING w_name", &[&w, &amount])
            .await?;
        let district = open
            .row(
                "UPDATE district SET d_ytd = d_ytd + $3 WHERE d_w_id = $1 AND d_id = $2 RETURNING d_name",
                &[&w, &d, &amount],
            )
            .await?;
        let c = self.customer(open, cw, cd).await?;
        let locked = open
            .row(
                "SELECT c_balance, c_credit, c_data FROM customer WHERE c_w_id = $1 AND c_d_id = $2 AND c_id = $3 FOR UPDATE",
                &[&cw, &cd, &c],
            )
            .await?;
        let before: i64 = locked.get(0);
        let credit: &str = locked.get(1);
        let paid = if credit == "BC" {
            let data: String = format!("{c} {cd} {cw} {d} {w} {amount} | {}", locked.get::<_, &str>(2));
            let data: String = data.chars().take(500).collect();
            open.row(
                "UPDATE customer SET c_balance = c_balance - $4, c_ytd_payment = c_ytd_payment + $4, \
                 c_payment_cnt = c_payment_cnt + 1, c_data = $5 WHERE c_w_id = $1 AND c_d_id = $2 AND c_id = $3 \
                 RETURNING c_balance",
                &[&cw, &cd, &c, &amount, &data],
            )
            .await?
        } else {
            open.row(
                "UPDATE customer SET c_balance = c_balance - $4, c_ytd_payment = c_ytd_payment + $4, \
                 c_payment_cnt = c_payment_cnt + 1 WHERE c_w_id = $1 AND c_d_id = $2 AND c_id = $3 RETURNING c_balance",
                &[&cw, &cd, &c, &amount],
            )
            .await?
        };
        let after: i64 = paid.get(0);
        if after != before - amount {
            return Err(Stop::Wrong(format!("customer {cw}/{cd}/{c}: {before} less {amount} became {after}")));
        }
        let data = format!("{}    {}", warehouse.get::<_, &str>(0), district.get::<_, &str>(0));
        open.rows(
            "INSERT INTO history (h_c_id, h_c_d_id, h_c_w_id, h_d_id, h_w_id, h_date, h_amount, h_data, h_mark) \
             VALUES ($1, $2, $3, $4, $5, CURRENT_TIMESTAMP, $6, $7, $8)",
            &[&c, &cd, &cw, &d, &w, &amount, &data, &done.mark],
        )
        .await
        .map(drop)
    }

    async fn order_status(&mut self, open: &mut Connection) -> Result<(), Stop> {
        let (w, d) = (self.warehouse(), self.district());
        let c = self.customer(open, w, d).await?;
        open.row(
            "SELECT c_balance, c_first, c_last FROM customer WHERE c_w_id = $1 AND c_d_id = $2 AND c_id = $3",
            &[&w, &d, &c],
        )
        .await?;
        let last = open
            .row(
                "SELECT o_id, o_carrier_id, o_ol_cnt FROM orders WHERE o_w_id = $1 AND o_d_id = $2 AND o_c_id = $3 \
                 ORDER BY o_id DESC LIMIT 1",
                &[&w, &d, &c],
            )
            .await?;
        let (o, count): (i32, i32) = (last.get(0), last.get(2));
        let lines = open
            .rows(
                "SELECT ol_i_id, ol_supply_w_id, ol_quantity, ol_amount, ol_delivery_d::text FROM order_line \
                 WHERE ol_w_id = $1 AND ol_d_id = $2 AND ol_o_id = $3",
                &[&w, &d, &o],
            )
            .await?;
        if i32::try_from(lines.len()) == Ok(count) {
            Ok(())
        } else {
            Err(Stop::Wrong(format!("order {w}/{d}/{o} has {count} lines, and shows {}", lines.len())))
        }
    }

    async fn delivery(&mut self, open: &mut Connection, done: &mut Done) -> Result<(), Stop> {
        let (w, carrier) = (self.warehouse(), self.dice.random_range(1..=10));
        for d in 1..=tables::DISTRICTS {
            let oldest = open
                .rows(
                    "SELECT no_o_id FROM new_order WHERE no_w_id = $1 AND no_d_id = $2 ORDER BY no_o_id LIMIT 1 FOR UPDATE",
                    &[&w, &d],
                )
                .await?;
            // Nothing to deliver, or another delivery has just taken it.
            let Some(oldest) = oldest.first() else { continue };
            let o: i32 = oldest.get(0);
            open.rows("DELETE FROM new_order WHERE no_w_id = $1 AND no_d_id = $2 AND no_o_id = $3", &[&w, &d, &o])
                .await?;
            let order = open
                .row(
                    "UPDATE orders SET o_carrier_id = $4 WHERE o_w_id = $1 AND o_d_id = $2 AND o_id = $3 RETURNING o_c_id",
                    &[&w, &d, &o, &carrier],
                )
                .await?;
            let c: i32 = order.get(0);
            open.rows(
                "UPDATE order_line SET ol_delivery_d = now() WHERE ol_w_id = $1 AND ol_d_id = $2 AND ol_o_id = $3",
                &[&w, &d, &o],
            )
            .await?;
            let amount: i64 = open
                .row(
                    "SELECT sum(ol_amount)::bigint FROM order_line WHERE ol_w_id = $1 AND ol_d_id = $2 AND ol_o_id = $3",
                    &[&w, &d, &o],
                )
                .await?
                .get(0);
            open.rows(
                "UPDATE customer SET c_balance = c_balance + $4, c_delivery_cnt = c_delivery_cnt + 1 \
                 WHERE c_w_id = $1 AND c_d_id = $2 AND c_id = $3",
                &[&w, &d, &c, &amount],
            )
            .await?;
            done.delivered += 1;
        }
        Ok(())
    }

    async fn stock_level(&mut self, open: &mut Connection) -> Result<(), Stop> {
        let (w, d, below) = (self.warehouse(), self.district(), self.dice.random_range(10..=20));
        let next: i32 =
            open.row("SELECT d_next_o_id FROM district WHERE d_w_id = $1 AND d_id = $2", &[&w, &d]).await?.get(0);
        open.row(
            "SELECT count(DISTINCT s_i_id) FROM order_line, stock WHERE ol_w_id = $1 AND ol_d_id = $2 AND ol_o_id < $3 \
             AND ol_o_id >= $3 - 20 AND s_w_id = $1 AND s_i_id = ol_i_id AND s_quantity < $4",
            &[&w, &d, &next, &below],
        )
        .await
        .map(drop)
    }
}
