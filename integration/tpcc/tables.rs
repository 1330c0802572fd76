//! The tables, smaller than TPC-C has them, and their first rows: written through the proxy.
//!
//! Money is in cents, rates in ten-thousandths. Two columns are ours: `h_mark` and `o_mark` tell which attempt of which
//! client wrote a row.

use std::fmt::Write as _;

use shardway::local_cluster::client::Client;

use crate::proxy::Outcome;

/// Of each warehouse.
pub(crate) const DISTRICTS: i32 = 10;
/// Of each district; each has one order at first.
pub(crate) const CUSTOMERS: i32 = 30;
/// Of these orders, the ones that are delivered.
pub(crate) const DELIVERED: i32 = 21;
pub(crate) const ITEMS: i32 = 500;
/// Last names of a district's customers: several have the same.
pub(crate) const NAMES: i32 = 10;
/// What every customer has paid at first.
const PAID: i64 = 1000;

pub(crate) const SCHEMA: &str = "
CREATE TABLE warehouse (w_id int PRIMARY KEY, w_name text NOT NULL, w_tax int NOT NULL, w_ytd bigint NOT NULL);
CREATE TABLE district (d_w_id int, d_id int, d_name text NOT NULL, d_tax int NOT NULL, d_ytd bigint NOT NULL,
    d_next_o_id int NOT NULL, PRIMARY KEY (d_w_id, d_id));
CREATE TABLE customer (c_w_id int, c_d_id int, c_id int, c_first text NOT NULL, c_last text NOT NULL, c_credit char(2) NOT NULL,
    c_discount int NOT NULL, c_balance bigint NOT NULL, c_ytd_payment bigint NOT NULL, c_payment_cnt int NOT NULL,
    c_delivery_cnt int NOT NULL, c_data varchar(500) NOT NULL, PRIMARY KEY (c_w_id, c_d_id, c_id));
CREATE INDEX ON customer (c_w_id, c_d_id, c_last, c_first);
CREATE TABLE history (h_c_id int NOT NULL, h_c_d_id int NOT NULL, h_c_w_id int NOT NULL, h_d_id int NOT NULL, h_w_id int NOT NULL,
    h_date timestamptz NOT NULL, h_amount bigint NOT NULL, h_data text NOT NULL, h_mark bigint NOT NULL);
CREATE TABLE orders (o_w_id int, o_d_id int, o_id int, o_c_id int NOT NULL, o_entry_d timestamptz NOT NULL, o_carrier_id int,
    o_ol_cnt int NOT NULL, o_all_local bool NOT NULL, o_mark bigint NOT NULL, PRIMARY KEY (o_w_id, o_d_id, o_id));
CREATE INDEX ON orders (o_w_id, o_d_id, o_c_id, o_id);
CREATE TABLE new_order (no_w_id int, no_d_id int, no_o_id int, PRIMARY KEY (no_w_id, no_d_id, no_o_id));
CREATE TABLE order_line (ol_w_id int, ol_d_id int, ol_o_id int, ol_number int, ol_i_id int NOT NULL, ol_supply_w_id int NOT NULL,
    ol_delivery_d timestamptz, ol_quantity int NOT NULL, ol_amount bigint NOT NULL, ol_dist_info char(24) NOT NULL,
    PRIMARY KEY (ol_w_id, ol_d_id, ol_o_id, ol_number));
CREATE TABLE item (i_id int PRIMARY KEY, i_name text NOT NULL, i_price bigint NOT NULL, i_data text NOT NULL);
CREATE TABLE stock (s_w_id int, s_i_id int, s_quantity int NOT NULL, s_dist char(24) NOT NULL, s_ytd bigint NOT NULL,
    s_order_cnt int NOT NULL, s_remote_cnt int NOT NULL, s_data text NOT NULL, PRIMARY KEY (s_w_id, s_i_id));
";

/// Rows as COPY takes them, a table each.
#[derive(Default)]
struct Rows {
    tables: Vec<(&'static str, String)>,
}

impl Rows {
    fn add(&mut self, table: &'static str, row: std::fmt::Arguments<'_>) {
        let place = self.tables.iter().position(|(it, _)| *it == table).unwrap_or_else(|| {
            self.tables.push((table, String::new()));
            self.tables.len() - 1
        });
        // Writing to a String cannot fail.
        let _ = writeln!(self.tables[place].1, "{row}");
    }
}

pub(crate) async fn load(client: &mut Client, warehouses: &[i32]) -> Outcome {
    let items: Vec<String> =
        (1..=ITEMS).map(|it| format!("({it}, 'item {it}', {}, 'data {it}')", 100 + it * 37 % 9900)).collect();
    client.query(&format!("INSERT INTO item VALUES {}", items.join(", "))).await?;
    let mut rows = Rows::default();
    let then = "2026-01-01 00:00:00+00";
    for w in warehouses {
        let paid = PAID * i64::from(CUSTOMERS);
        rows.add("warehouse", format_args!("{w}\twarehouse {w}\t{}\t{}", w * 77 % 2000, paid * i64::from(DISTRICTS)));
        for i in 1..=ITEMS {
            rows.add("stock", format_args!("{w}\t{i}\t{}\tdist {w} {i}\t0\t0\t0\tdata", 10 + (w + i) * 31 % 91));
        }
        for d in 1..=DISTRICTS {
            rows.add("district", format_args!("{w}\t{d}\tdistrict {d}\t{}\t{paid}\t{}", d * 99 % 2000, CUSTOMERS + 1));
            for c in 1..=CUSTOMERS {
                let credit = if c % 10 == 0 { "BC" } else { "GC" };
                rows.add(
                    "customer",
                    format_args!(
                        "{w}\t{d}\t{c}\tfirst {}\tlast {}\t{credit}\t{}\t-{PAID}\t{PAID}\t1\t0\tdata",
                        c * 7919 % 100,
                        c % NAMES,
                        c * 41 % 5000
                    ),
                );
                rows.add("history", format_args!("{c}\t{d}\t{w}\t{d}\t{w}\t{then}\t{PAID}\tfirst\t0"));
                // Customers in another order than orders.
                let (o, delivered) = ((c * 7 + d) % CUSTOMERS + 1, |o| o <= DELIVERED);
                let carrier = if delivered(o) { "1" } else { "\\N" };
                let count = 5 + o % 11;
                rows.add("orders", format_args!("{w}\t{d}\t{o}\t{c}\t{then}\t{carrier}\t{count}\tt\t0"));
                if !delivered(o) {
                    rows.add("new_order", format_args!("{w}\t{d}\t{o}"));
                }
                for n in 1..=count {
                    let item = (w * 13 + d * 101 + o * 17 + n * 53) % ITEMS + 1;
                    let (at, amount) = if delivered(o) { (then, 0) } else { ("\\N", item * 3) };
                    rows.add("order_line", format_args!("{w}\t{d}\t{o}\t{n}\t{item}\t{w}\t{at}\t5\t{amount}\tdist"));
                }
            }
        }
    }
    for (table, rows) in &rows.tables {
        client.copy_in(&format!("COPY {table} FROM STDIN"), rows).await?;
    }
    Ok(())
}
