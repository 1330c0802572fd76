//! The sample shop: its tables, and rows that are the same at every start.
//!
//! Rows are computed from their numbers, so that what documentation shows is what a reader sees.

use std::fmt::Write as _;

/// The shop's tables in the order in which they can be made.
pub(super) const TABLES: [&str; 5] = [
    "CREATE TABLE countries (code text PRIMARY KEY, name text NOT NULL)",
    "CREATE TABLE settings (name text PRIMARY KEY, value text NOT NULL)",
    "CREATE TABLE customers (id bigint PRIMARY KEY, name text NOT NULL, email text NOT NULL, country text NOT NULL, \
     created_at timestamptz NOT NULL DEFAULT now())",
    "CREATE TABLE orders (id bigint NOT NULL, customer_id bigint NOT NULL REFERENCES customers (id), \
     status text NOT NULL DEFAULT 'new', total numeric(10,2) NOT NULL DEFAULT 0, \
     created_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (customer_id, id))",
    "CREATE TABLE order_items (customer_id bigint NOT NULL, order_id bigint NOT NULL, line integer NOT NULL, \
     product text NOT NULL, quantity integer NOT NULL, price numeric(10,2) NOT NULL, \
     PRIMARY KEY (customer_id, order_id, line), \
     FOREIGN KEY (customer_id, order_id) REFERENCES orders (customer_id, id))",
];

/// The same tables for MariaDB.
pub(super) const MYSQL_TABLES: [&str; 5] = [
    "CREATE TABLE countries (code varchar(2) PRIMARY KEY, name varchar(80) NOT NULL)",
    "CREATE TABLE settings (name varchar(80) PRIMARY KEY, value varchar(200) NOT NULL)",
    "CREATE TABLE customers (id bigint PRIMARY KEY, name varchar(200) NOT NULL, email varchar(200) NOT NULL, \
     country varchar(2) NOT NULL, created_at datetime NOT NULL DEFAULT current_timestamp)",
    "CREATE TABLE orders (id bigint NOT NULL, customer_id bigint NOT NULL, status varchar(20) NOT NULL DEFAULT 'new', \
     total decimal(10,2) NOT NULL DEFAULT 0, created_at datetime NOT NULL DEFAULT current_timestamp, \
     PRIMARY KEY (customer_id, id), FOREIGN KEY (customer_id) REFERENCES customers (id))",
    "CREATE TABLE order_items (customer_id bigint NOT NULL, order_id bigint NOT NULL, line integer NOT NULL, \
     product varchar(80) NOT NULL, quantity integer NOT NULL, price decimal(10,2) NOT NULL, \
     PRIMARY KEY (customer_id, order_id, line), \
     FOREIGN KEY (customer_id, order_id) REFERENCES orders (customer_id, id))",
];

/// The statements that rows are loaded by, each with its name.
pub(super) const INSERTS: [(&str, &str); 3] = [
    (CUSTOMER, "INSERT INTO customers (id, name, email, country, created_at) VALUES ($1, $2, $3, $4, $5)"),
    (ORDER, "INSERT INTO orders (id, customer_id, status, total, created_at) VALUES ($1, $2, $3, $4, $5)"),
    (
        ITEM,
        "INSERT INTO order_items (customer_id, order_id, line, product, quantity, price) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    ),
];
const CUSTOMER: &str = "customer";
const ORDER: &str = "order";
const ITEM: &str = "item";

/// How many customers there are, numbered from 1.
pub(super) const CUSTOMERS: u64 = 1000;
/// The statement that loads `settings`, and its rows.
pub(super) const SETTINGS: (&str, &str) = (
    "COPY settings (name, value) FROM STDIN",
    "currency\tEUR\nfree_shipping_from\t50\nreturns_days\t30\nshop_name\tThe Sample Shop\n",
);

const COUNTRIES: [(&str, &str); 8] = [
    ("AT", "Austria"),
    ("BE", "Belgium"),
    ("DE", "Germany"),
    ("ES", "Spain"),
    ("FR", "France"),
    ("IT", "Italy"),
    ("NL", "Netherlands"),
    ("PL", "Poland"),
];
const MATERIALS: [&str; 7] = ["Amber", "Birch", "Copper", "Granite", "Linen", "Maple", "Slate"];
const TRADES: [&str; 9] = ["Bakery", "Books", "Cycles", "Flowers", "Garden", "Kitchen", "Music", "Paper", "Workshop"];
const STATES: [&str; 4] = ["new", "paid", "shipped", "returned"];
/// Products and their prices in cents.
const PRODUCTS: [(&str, u64); 10] = [
    ("apron", 2450),
    ("basket", 1890),
    ("candle", 690),
    ("desk lamp", 5900),
    ("envelope box", 420),
    ("flower pot", 1250),
    ("glass jar", 330),
    ("hand saw", 2790),
    ("ink bottle", 840),
    ("kettle", 3995),
];

/// A statement's name and its values.
pub(super) type Insert = (&'static str, Vec<String>);

/// All rows of one customer: one transaction, on one shard.
pub(super) fn rows_of(customer: u64) -> Vec<Insert> {
    let name = format!("{} {} {customer}", pick(&MATERIALS, customer), pick(&TRADES, customer));
    let email = format!("shop{customer}@example.com");
    let (country, _) = pick(&COUNTRIES, customer);
    let id = customer.to_string();
    let mut rows = vec![(CUSTOMER, vec![id.clone(), name, email, country.to_owned(), moment(customer)])];
    for number in 1..=1 + customer % 4 {
        let order = customer * 10 + number;
        let mut total = 0;
        let mut items = Vec::new();
        for line in 1..=1 + (customer + number) % 4 {
            let (product, price) = pick(&PRODUCTS, order + line);
            let quantity = 1 + (order + line * 3) % 5;
            total += price * quantity;
            let values = [
                id.clone(),
                order.to_string(),
                line.to_string(),
                product.to_owned(),
                quantity.to_string(),
                euros(price),
            ];
            items.push((ITEM, values.to_vec()));
        }
        let state = pick(&STATES, order).to_owned();
        rows.push((ORDER, vec![order.to_string(), id.clone(), state, euros(total), moment(order)]));
        rows.append(&mut items);
    }
    rows
}

/// One statement that fills `countries`.
pub(super) fn countries() -> String {
    let mut sql = String::from("INSERT INTO countries (code, name) VALUES ");
    for (index, (code, name)) in COUNTRIES.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = write!(sql, "{}('{code}', '{name}')", if index == 0 { "" } else { ", " });
    }
    sql
}

/// All rows of one customer as MariaDB is told them: one transaction, with a statement for each table.
pub(super) fn mysql_rows_of(customer: u64) -> String {
    let rows = rows_of(customer);
    let mut sql = String::from("BEGIN;\n");
    for (name, insert) in INSERTS {
        let values: Vec<String> = rows.iter().filter(|row| row.0 == name).map(|row| quoted(&row.1)).collect();
        let into = insert.split_once(" VALUES ").map_or(insert, |(into, _)| into);
        // Writing to a String cannot fail.
        let _ = writeln!(sql, "{into} VALUES {};", values.join(", "));
    }
    sql.push_str("COMMIT;\n");
    sql
}

/// The statement that fills `settings` on MariaDB.
pub(super) fn mysql_settings() -> String {
    let rows = SETTINGS.1.lines().map(|line| quoted(line.split('\t')));
    format!("INSERT INTO settings (name, value) VALUES {};\n", rows.collect::<Vec<_>>().join(", "))
}

/// A row as it stands in VALUES. Moments go without their zone, which MariaDB takes in no literal.
fn quoted<T: AsRef<str>>(values: impl IntoIterator<Item = T>) -> String {
    let value = |value: T| {
        let value = value.as_ref();
        format!("'{}'", value.strip_suffix("+00").unwrap_or(value).replace('\'', "''"))
    };
    format!("({})", values.into_iter().map(value).collect::<Vec<_>>().join(", "))
}

fn pick<T: Copy, const N: usize>(list: &[T; N], number: u64) -> T {
    let index = usize::try_from(number).unwrap_or(0) % N;
    *list.get(index).expect("a remainder is below the length it was taken by")
}

fn euros(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// A moment of the year 2026 that exists in every month.
fn moment(number: u64) -> String {
    format!("2026-{:02}-{:02} {:02}:{:02}:00+00", 1 + number % 12, 1 + number % 28, number % 24, number % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_ten_thousand_rows_and_each_names_its_customer() {
        let mut rows = 0;
        for customer in 1..=CUSTOMERS {
            let id = customer.to_string();
            for (statement, values) in rows_of(customer) {
                let key = if statement == ORDER { &values[1] } else { &values[0] };
                assert_eq!(*key, id);
                rows += 1;
            }
        }
        assert_eq!(rows, 10_000);
    }

    #[test]
    fn mariadb_gets_the_same_rows() {
        let sql = mysql_rows_of(7);
        assert!(
            sql.starts_with("BEGIN;\nINSERT INTO customers (id, name, email, country, created_at) VALUES ('7', "),
            "{sql}"
        );
        assert_eq!((sql.lines().count(), sql.matches("+00").count()), (5, 0), "{sql}");
        let rows: usize = (1..=CUSTOMERS).map(|customer| mysql_rows_of(customer).matches("('").count()).sum();
        assert_eq!(rows, 10_000);
    }

    #[test]
    fn an_order_costs_what_its_items_cost() {
        let rows = rows_of(7);
        assert_eq!(rows[0].1[1], "Amber Paper 7");
        let cents = |text: &str| text.replace('.', "").parse::<u64>().expect("digits");
        let ordered: u64 = rows.iter().filter(|row| row.0 == ORDER).map(|row| cents(&row.1[3])).sum();
        let items = rows.iter().filter(|row| row.0 == ITEM);
        let bought: u64 = items.map(|row| cents(&row.1[5]) * row.1[4].parse::<u64>().expect("digits")).sum();
        assert_eq!(ordered, bought);
    }
}
