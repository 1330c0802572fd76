//! TPC-C's consistency conditions (clause 3.3.2), and what clients were told against what is there.
//!
//! Each condition counts what breaks it. It is asked of each server, where all that it joins is of one warehouse, and of
//! the proxy; what joins warehouses is added up here from what the servers hold, and asked of the proxy as well.

use std::collections::BTreeMap;
use std::collections::HashMap;

use shardway::local_cluster::Cluster;
use shardway::local_cluster::client::Client;

use crate::proxy::Outcome;
use crate::proxy::text;
use crate::tables;
use crate::terminal::Fate;
use crate::terminal::Ledger;
use crate::wrong;

/// Within one warehouse.
const OF_A_WAREHOUSE: [(&str, &str); 11] = [
    (
        "1: w_ytd is the sum of d_ytd",
        "SELECT count(*) FROM warehouse JOIN (SELECT d_w_id, sum(d_ytd) AS ytd FROM district GROUP BY d_w_id) AS d \
         ON d_w_id = w_id WHERE w_ytd <> ytd",
    ),
    (
        "2: d_next_o_id is behind the last order",
        "SELECT count(*) FROM district LEFT JOIN (SELECT o_w_id, o_d_id, max(o_id) AS last FROM orders GROUP BY o_w_id, o_d_id) AS o \
         ON o_w_id = d_w_id AND o_d_id = d_id WHERE last IS DISTINCT FROM d_next_o_id - 1",
    ),
    (
        "2: and behind the last new order",
        "SELECT count(*) FROM district JOIN (SELECT no_w_id, no_d_id, max(no_o_id) AS last FROM new_order GROUP BY no_w_id, no_d_id) \
         AS n ON no_w_id = d_w_id AND no_d_id = d_id WHERE last <> d_next_o_id - 1",
    ),
    (
        "3: new orders have no gaps",
        "SELECT count(*) FROM (SELECT 1 FROM new_order GROUP BY no_w_id, no_d_id \
         HAVING max(no_o_id) - min(no_o_id) + 1 <> count(*)) AS gaps",
    ),
    (
        "4: a district has the lines that its orders count",
        "SELECT count(*) FROM (SELECT o_w_id, o_d_id, sum(o_ol_cnt) AS lines FROM orders GROUP BY o_w_id, o_d_id) AS o \
         FULL JOIN (SELECT ol_w_id, ol_d_id, count(*) AS lines FROM order_line GROUP BY ol_w_id, ol_d_id) AS l \
         ON o_w_id = ol_w_id AND o_d_id = ol_d_id WHERE o.lines IS DISTINCT FROM l.lines",
    ),
    (
        "5: an order has no carrier just when it is new",
        "SELECT count(*) FROM orders LEFT JOIN new_order ON no_w_id = o_w_id AND no_d_id = o_d_id AND no_o_id = o_id \
         WHERE (o_carrier_id IS NULL) <> (no_o_id IS NOT NULL)",
    ),
    (
        "6: an order has the lines that it counts",
        "SELECT count(*) FROM orders FULL JOIN (SELECT ol_w_id, ol_d_id, ol_o_id, count(*) AS lines FROM order_line \
         GROUP BY ol_w_id, ol_d_id, ol_o_id) AS l ON o_w_id = ol_w_id AND o_d_id = ol_d_id AND o_id = ol_o_id \
         WHERE o_ol_cnt IS DISTINCT FROM lines",
    ),
    (
        "7: a line is delivered just when its order has a carrier",
        "SELECT count(*) FROM order_line JOIN orders ON o_w_id = ol_w_id AND o_d_id = ol_d_id AND o_id = ol_o_id \
         WHERE (ol_delivery_d IS NULL) <> (o_carrier_id IS NULL)",
    ),
    (
        "8: w_ytd is the sum of history",
        "SELECT count(*) FROM warehouse JOIN (SELECT h_w_id, sum(h_amount) AS ytd FROM history GROUP BY h_w_id) AS h \
         ON h_w_id = w_id WHERE w_ytd <> ytd",
    ),
    (
        "9: d_ytd is the sum of history",
        "SELECT count(*) FROM district JOIN (SELECT h_w_id, h_d_id, sum(h_amount) AS ytd FROM history GROUP BY h_w_id, h_d_id) AS h \
         ON h_w_id = d_w_id AND h_d_id = d_id WHERE d_ytd <> ytd",
    ),
    (
        "12: balance and payments of a customer are the sum of what was delivered",
        "SELECT count(*) FROM customer LEFT JOIN (SELECT o_w_id, o_d_id, o_c_id, sum(ol_amount) AS amount FROM orders \
         JOIN order_line ON ol_w_id = o_w_id AND ol_d_id = o_d_id AND ol_o_id = o_id WHERE ol_delivery_d IS NOT NULL \
         GROUP BY o_w_id, o_d_id, o_c_id) AS d ON o_w_id = c_w_id AND o_d_id = c_d_id AND o_c_id = c_id \
         WHERE c_balance + c_ytd_payment <> coalesce(amount, 0)",
    ),
];

/// Across warehouses, and so shards: of the proxy alone.
const ACROSS: [(&str, &str); 2] = [
    (
        "10: payments of a customer are the sum of history",
        "SELECT count(*) FROM customer LEFT JOIN (SELECT h_c_w_id, h_c_d_id, h_c_id, sum(h_amount) AS paid, count(*) AS times \
         FROM history GROUP BY h_c_w_id, h_c_d_id, h_c_id) AS h ON h_c_w_id = c_w_id AND h_c_d_id = c_d_id AND h_c_id = c_id \
         WHERE c_ytd_payment IS DISTINCT FROM paid OR c_payment_cnt <> times",
    ),
    (
        "what a warehouse has sold is what was ordered of it",
        "SELECT count(*) FROM stock LEFT JOIN (SELECT ol_supply_w_id, ol_i_id, sum(ol_quantity) AS sold, count(*) AS times, \
         count(*) FILTER (WHERE ol_w_id <> ol_supply_w_id) AS remote FROM order_line JOIN orders ON o_w_id = ol_w_id \
         AND o_d_id = ol_d_id AND o_id = ol_o_id WHERE o_mark <> 0 GROUP BY ol_supply_w_id, ol_i_id) AS l \
         ON ol_supply_w_id = s_w_id AND ol_i_id = s_i_id WHERE (s_ytd, s_order_cnt, s_remote_cnt) IS DISTINCT FROM \
         (coalesce(sold, 0), coalesce(times, 0), coalesce(remote, 0))",
    ),
];

pub(crate) async fn hold(cluster: &Cluster, proxy: &mut Client, ledger: &Ledger) -> Outcome {
    let mut servers = Vec::new();
    for node in cluster.primaries() {
        servers.push(node.connect("shop").await?);
    }
    let mut broken = Vec::new();
    for (name, sql) in OF_A_WAREHOUSE {
        for (place, server) in servers.iter_mut().enumerate() {
            judge(&format!("{name}, on shard {}", place + 1), server, sql, &mut broken).await;
        }
    }
    for (name, sql) in OF_A_WAREHOUSE.iter().chain(&ACROSS) {
        judge(&format!("{name}, through the proxy"), proxy, sql, &mut broken).await;
    }
    payments(&mut servers, ledger, &mut broken).await?;
    orders(&mut servers, ledger, &mut broken).await?;
    if broken.is_empty() { Ok(()) } else { Err(wrong(broken.join("\n"))) }
}

async fn judge(name: &str, client: &mut Client, sql: &str, broken: &mut Vec<String>) {
    match client.value(sql).await {
        Ok(Some(count)) if count == "0" => {}
        Ok(count) => broken.push(format!("{name}: {count:?} do not hold")),
        Err(error) => broken.push(format!("{name}: {error}")),
    }
}

/// All rows of all servers.
async fn all(servers: &mut [Client], sql: &str) -> Outcome<Vec<Vec<Option<String>>>> {
    let mut rows = Vec::new();
    for server in servers {
        rows.extend(server.query(sql).await?);
    }
    Ok(rows)
}

/// Sums by what the leading columns say, added up over the servers.
async fn sums(servers: &mut [Client], sql: &str, keys: usize) -> Outcome<BTreeMap<String, Vec<i64>>> {
    let mut sums: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for row in all(servers, sql).await? {
        let key: Vec<&str> = (0..keys).map(|at| text(&row, at)).collect::<Outcome<_>>()?;
        let sum = sums.entry(key.join("/")).or_insert_with(|| vec![0; row.len() - keys]);
        for (at, sum) in sum.iter_mut().enumerate() {
            *sum += text(&row, keys + at)?.parse::<i64>()?;
        }
    }
    Ok(sums)
}

fn same(name: &str, one: &BTreeMap<String, Vec<i64>>, other: &BTreeMap<String, Vec<i64>>, broken: &mut Vec<String>) {
    let differ: Vec<_> = one.keys().chain(other.keys()).filter(|key| one.get(*key) != other.get(*key)).collect();
    if let Some(first) = differ.first() {
        let (a, b) = (one.get(*first), other.get(*first));
        broken.push(format!("{name}: {} differ, such as {first}: {a:?} and {b:?}", differ.len()));
    }
}

/// Whether each mark is there as often as its client was told; a mark of which nobody knows is there once or not at all.
fn marks(name: &str, there: &HashMap<i64, i64>, told: impl Iterator<Item = (i64, Fate)>, broken: &mut Vec<String>) {
    let mut known = 0;
    for (mark, fate) in told {
        let times = there.get(&mark).copied().unwrap_or_default();
        known += i64::from(times > 0);
        let right = match fate {
            Fate::Done => times == 1,
            Fate::NotDone => times == 0,
            Fate::Unknown => times <= 1,
        };
        if !right {
            broken.push(format!("{name} {:#x} was told to be {fate:?}, and is there {times} times", mark));
        }
    }
    let all = i64::try_from(there.len()).unwrap_or(i64::MAX);
    if all != known {
        broken.push(format!("{} {name}s are there that nobody made", all - known));
    }
}

async fn payments(servers: &mut [Client], ledger: &Ledger, broken: &mut Vec<String>) -> Outcome {
    let history = all(servers, "SELECT h_mark, h_amount FROM history WHERE h_mark <> 0").await?;
    let mut there: HashMap<i64, i64> = HashMap::new();
    for row in &history {
        let (mark, amount) = (text(row, 0)?.parse::<i64>()?, text(row, 1)?.parse::<i64>()?);
        *there.entry(mark).or_default() += 1;
        if ledger.payments.get(&mark).is_none_or(|(told, _)| *told != amount) {
            broken.push(format!("payment {mark:#x} is of {amount}"));
        }
    }
    marks("payment", &there, ledger.payments.iter().map(|(mark, (_, fate))| (*mark, *fate)), broken);
    let paid = "SELECT h_c_w_id, h_c_d_id, h_c_id, sum(h_amount), count(*) FROM history GROUP BY 1, 2, 3";
    let booked = "SELECT c_w_id, c_d_id, c_id, c_ytd_payment, c_payment_cnt FROM customer";
    same("10: payments of customers", &sums(servers, paid, 3).await?, &sums(servers, booked, 3).await?, broken);
    Ok(())
}

async fn orders(servers: &mut [Client], ledger: &Ledger, broken: &mut Vec<String>) -> Outcome {
    let mut there: HashMap<i64, i64> = HashMap::new();
    for row in all(servers, "SELECT o_mark FROM orders WHERE o_mark <> 0").await? {
        *there.entry(text(&row, 0)?.parse()?).or_default() += 1;
    }
    marks("order", &there, ledger.orders.iter().map(|(mark, fate)| (*mark, *fate)), broken);
    let sold = "SELECT ol_supply_w_id, ol_i_id, sum(ol_quantity), count(*), count(*) FILTER (WHERE ol_w_id <> ol_supply_w_id) \
                FROM order_line JOIN orders ON o_w_id = ol_w_id AND o_d_id = ol_d_id AND o_id = ol_o_id WHERE o_mark <> 0 \
                GROUP BY 1, 2";
    let booked = "SELECT s_w_id, s_i_id, s_ytd, s_order_cnt, s_remote_cnt FROM stock WHERE s_order_cnt > 0";
    same("what warehouses have sold", &sums(servers, sold, 2).await?, &sums(servers, booked, 2).await?, broken);
    // 11: orders that are not new are those delivered at first and since.
    let counts = "SELECT 'all', (SELECT count(*) FROM orders) - (SELECT count(*) FROM new_order), \
                  (SELECT count(*) FROM district), (SELECT sum(c_delivery_cnt) FROM customer)";
    let counts = sums(servers, counts, 1).await?;
    let [delivered, districts, booked] = counts.get("all").map(Vec::as_slice).unwrap_or_default() else {
        return Err(wrong("no counts"));
    };
    let since = delivered - districts * i64::from(tables::DELIVERED);
    if !(ledger.delivered..=ledger.delivered + ledger.perhaps_delivered).contains(&since) || since != *booked {
        broken.push(format!(
            "11: {since} orders were delivered, {booked} booked, and {} to {} acknowledged",
            ledger.delivered,
            ledger.delivered + ledger.perhaps_delivered
        ));
    }
    Ok(())
}
