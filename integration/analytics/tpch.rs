//! TPC-H's tables, and rows with the distributions that its specification asks for (4.2.3), from a seed.
//!
//! Comments are shorter than there: no query reads more of them than a few words.

use std::fmt::Write as _;

use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::rig::Table;

/// Customers with their orders; lines by themselves; parts with who supplies them.
pub(crate) const BY_CUSTOMER: &str = "
    groups:
      customer: {key: int, tables: {customer: c_custkey, orders: o_custkey}}
      line: {key: bigint, tables: {lineitem: l_orderkey}}
      part: {key: int, tables: {part: p_partkey, partsupp: ps_partkey}}
    reference: [region, nation, supplier]
";
/// Orders with their lines; customers by themselves; suppliers with what they supply.
pub(crate) const BY_ORDER: &str = "
    groups:
      order: {key: bigint, tables: {orders: o_orderkey, lineitem: l_orderkey}}
      customer: {key: int, tables: {customer: c_custkey}}
      supplier: {key: int, tables: {supplier: s_suppkey, partsupp: ps_suppkey}}
    reference: [region, nation, part]
";

/// On every server. Not primary keys, for not all of them would hold the shard key.
pub(crate) const INDEXES: &str = "
CREATE INDEX ON part (p_partkey);
CREATE INDEX ON supplier (s_suppkey);
CREATE INDEX ON partsupp (ps_partkey, ps_suppkey);
CREATE INDEX ON customer (c_custkey);
CREATE INDEX ON orders (o_orderkey);
CREATE INDEX ON lineitem (l_orderkey, l_linenumber);
CREATE INDEX ON lineitem (l_partkey, l_suppkey);
";

const REGION: &[(&str, &str)] = &[("r_regionkey", "integer"), ("r_name", "char(25)"), ("r_comment", "varchar(152)")];
const NATION: &[(&str, &str)] =
    &[("n_nationkey", "integer"), ("n_name", "char(25)"), ("n_regionkey", "integer"), ("n_comment", "varchar(152)")];
const PART: &[(&str, &str)] = &[
    ("p_partkey", "integer"),
    ("p_name", "varchar(55)"),
    ("p_mfgr", "char(25)"),
    ("p_brand", "char(10)"),
    ("p_type", "varchar(25)"),
    ("p_size", "integer"),
    ("p_container", "char(10)"),
    ("p_retailprice", "numeric(15,2)"),
    ("p_comment", "varchar(23)"),
];
const SUPPLIER: &[(&str, &str)] = &[
    ("s_suppkey", "integer"),
    ("s_name", "char(25)"),
    ("s_address", "varchar(40)"),
    ("s_nationkey", "integer"),
    ("s_phone", "char(15)"),
    ("s_acctbal", "numeric(15,2)"),
    ("s_comment", "varchar(101)"),
];
const PARTSUPP: &[(&str, &str)] = &[
    ("ps_partkey", "integer"),
    ("ps_suppkey", "integer"),
    ("ps_availqty", "integer"),
    ("ps_supplycost", "numeric(15,2)"),
    ("ps_comment", "varchar(199)"),
];
const CUSTOMER: &[(&str, &str)] = &[
    ("c_custkey", "integer"),
    ("c_name", "varchar(25)"),
    ("c_address", "varchar(40)"),
    ("c_nationkey", "integer"),
    ("c_phone", "char(15)"),
    ("c_acctbal", "numeric(15,2)"),
    ("c_mktsegment", "char(10)"),
    ("c_comment", "varchar(117)"),
];
const ORDERS: &[(&str, &str)] = &[
    ("o_orderkey", "bigint"),
    ("o_custkey", "integer"),
    ("o_orderstatus", "char(1)"),
    ("o_totalprice", "numeric(15,2)"),
    ("o_orderdate", "date"),
    ("o_orderpriority", "char(15)"),
    ("o_clerk", "char(15)"),
    ("o_shippriority", "integer"),
    ("o_comment", "varchar(79)"),
];
const LINEITEM: &[(&str, &str)] = &[
    ("l_orderkey", "bigint"),
    ("l_partkey", "integer"),
    ("l_suppkey", "integer"),
    ("l_linenumber", "integer"),
    ("l_quantity", "numeric(15,2)"),
    ("l_extendedprice", "numeric(15,2)"),
    ("l_discount", "numeric(15,2)"),
    ("l_tax", "numeric(15,2)"),
    ("l_returnflag", "char(1)"),
    ("l_linestatus", "char(1)"),
    ("l_shipdate", "date"),
    ("l_commitdate", "date"),
    ("l_receiptdate", "date"),
    ("l_shipinstruct", "char(25)"),
    ("l_shipmode", "char(10)"),
    ("l_comment", "varchar(44)"),
];

const REGIONS: [&str; 5] = ["AFRICA", "AMERICA", "ASIA", "EUROPE", "MIDDLE EAST"];
const NATIONS: [(&str, usize); 25] = [
    ("ALGERIA", 0),
    ("ARGENTINA", 1),
    ("BRAZIL", 1),
    ("CANADA", 1),
    ("EGYPT", 4),
    ("ETHIOPIA", 0),
    ("FRANCE", 3),
    ("GERMANY", 3),
    ("INDIA", 2),
    ("INDONESIA", 2),
    ("IRAN", 4),
    ("IRAQ", 4),
    ("JAPAN", 2),
    ("JORDAN", 4),
    ("KENYA", 0),
    ("MOROCCO", 0),
    ("MOZAMBIQUE", 0),
    ("PERU", 1),
    ("CHINA", 2),
    ("ROMANIA", 3),
    ("SAUDI ARABIA", 4),
    ("VIETNAM", 2),
    ("RUSSIA", 3),
    ("UNITED KINGDOM", 3),
    ("UNITED STATES", 1),
];
const SEGMENTS: [&str; 5] = ["AUTOMOBILE", "BUILDING", "FURNITURE", "MACHINERY", "HOUSEHOLD"];
const PRIORITIES: [&str; 5] = ["1-URGENT", "2-HIGH", "3-MEDIUM", "4-NOT SPECIFIED", "5-LOW"];
const INSTRUCTIONS: [&str; 4] = ["DELIVER IN PERSON", "COLLECT COD", "NONE", "TAKE BACK RETURN"];
const MODES: [&str; 7] = ["REG AIR", "AIR", "RAIL", "SHIP", "TRUCK", "MAIL", "FOB"];
const TYPES: [&[&str]; 3] = [
    &["STANDARD", "SMALL", "MEDIUM", "LARGE", "ECONOMY", "PROMO"],
    &["ANODIZED", "BURNISHED", "PLATED", "POLISHED", "BRUSHED"],
    &["TIN", "NICKEL", "BRASS", "STEEL", "COPPER"],
];
const CONTAINERS: [&[&str]; 2] =
    [&["SM", "LG", "MED", "JUMBO", "WRAP"], &["CASE", "BOX", "BAG", "JAR", "PKG", "PACK", "CAN", "DRUM"]];
const COLORS: &str = "almond antique aquamarine azure beige bisque black blanched blue blush brown burlywood burnished \
    chartreuse chiffon chocolate coral cornflower cornsilk cream cyan dark deep dim dodger drab firebrick floral forest \
    frosted gainsboro ghost goldenrod green grey honeydew hot indian ivory khaki lace lavender lawn lemon light lime linen \
    magenta maroon medium metallic midnight mint misty moccasin navajo navy olive orange orchid pale papaya peach peru \
    pink plum powder puff purple red rose rosy royal saddle salmon sandy seashell sienna sky slate smoke snow spring steel \
    tan thistle tomato turquoise violet wheat white yellow";
const WORDS: &str = "packages requests accounts deposits foxes ideas theodolites instructions dependencies excuses \
    platelets asymptotes courts dolphins multipliers sauternes warthogs frets dinos attainments special pending unusual \
    express furious sly careful blithe quick fluffy slow quiet ruthless thin close dogged daring brave stealthy permanent \
    sleep wake are cajole haggle nag use boost affix detect integrate maintain";

/// The days of orders and of what follows them, from 1992-01-01 on.
const YEARS: std::ops::RangeInclusive<usize> = 1992..=1999;
/// 1995-06-17: what was shipped by then is no longer open.
const TODAY: usize = 1263;
/// Orders are made until 1998-08-02, so that their lines arrive within 1998.
const ORDER_DAYS: usize = 2406;

/// All tables at a scale factor.
pub(crate) fn tables(scale: f64) -> Vec<Table> {
    let sizes = Sizes {
        suppliers: scaled(scale, 10_000.0),
        parts: scaled(scale, 200_000.0),
        customers: scaled(scale, 150_000.0),
        orders: scaled(scale, 1_500_000.0),
        clerks: scaled(scale, 1000.0),
    };
    let table = |name, columns, rows| Table { name, columns, rows };
    let (orders, lines) = orders(&sizes);
    vec![
        table("region", REGION, regions()),
        table("nation", NATION, nations()),
        table("part", PART, parts(&sizes)),
        table("supplier", SUPPLIER, suppliers(&sizes)),
        table("partsupp", PARTSUPP, supplies(&sizes)),
        table("customer", CUSTOMER, customers(&sizes)),
        table("orders", ORDERS, orders),
        table("lineitem", LINEITEM, lines),
    ]
}

struct Sizes {
    suppliers: usize,
    parts: usize,
    customers: usize,
    orders: usize,
    clerks: usize,
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of rows, which is small")]
fn scaled(scale: f64, rows: f64) -> usize {
    (scale * rows).max(1.0) as usize
}

struct Dice {
    random: StdRng,
    words: Vec<&'static str>,
}

impl Dice {
    fn new(seed: u64) -> Self {
        Self { random: StdRng::seed_from_u64(seed), words: WORDS.split_whitespace().collect() }
    }

    fn between(&mut self, from: usize, to: usize) -> usize {
        self.random.random_range(from..=to)
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.random.random_range(0..of.len())]
    }

    /// Words up to a length between these two.
    fn text(&mut self, shortest: usize, longest: usize) -> String {
        let length = self.between(shortest, longest);
        let mut text = String::with_capacity(length + 16);
        while text.len() < length {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(self.words[self.random.random_range(0..self.words.len())]);
        }
        text.truncate(length);
        text
    }

    /// Its first two digits say the nation, which Q22 goes by.
    fn phone(&mut self, nation: usize) -> String {
        let (a, b, c) = (self.between(100, 999), self.between(100, 999), self.between(1000, 9999));
        format!("{}-{a}-{b}-{c}", nation + 10)
    }

    /// From -999.99 to 9999.99.
    fn balance(&mut self) -> String {
        const DEBT: usize = 99_999;
        let cents = self.between(0, DEBT + 999_999);
        if cents < DEBT { format!("-{}", money(DEBT - cents)) } else { money(cents - DEBT) }
    }
}

fn money(cents: usize) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

fn regions() -> String {
    REGIONS.iter().enumerate().map(|(key, name)| format!("{key}\t{name}\tregion of {key}\n")).collect()
}

fn nations() -> String {
    let row = |(key, (name, region)): (usize, &(&str, usize))| format!("{key}\t{name}\t{region}\tnation of {region}\n");
    NATIONS.iter().enumerate().map(row).collect()
}

/// A part's price follows from its key, and lines need it.
fn price(part: usize) -> usize {
    90_000 + (part / 10) % 20_001 + 100 * (part % 1000)
}

/// The four suppliers of a part.
fn suppliers_of(part: usize, suppliers: usize) -> [usize; 4] {
    let mut found = [0; 4];
    for place in 0..4 {
        let mut supplier = (part + place * (suppliers / 4 + (part - 1) / suppliers)) % suppliers + 1;
        // Where suppliers are few, the formula comes back to one.
        while suppliers >= 4 && found[..place].contains(&supplier) {
            supplier = supplier % suppliers + 1;
        }
        found[place] = supplier;
    }
    found
}

fn parts(sizes: &Sizes) -> String {
    let mut dice = Dice::new(1);
    let colors: Vec<&str> = COLORS.split_whitespace().collect();
    let mut rows = String::new();
    for key in 1..=sizes.parts {
        let mut name: Vec<&str> = Vec::new();
        while name.len() < 5 {
            let color = dice.one(&colors);
            if !name.contains(&color) {
                name.push(color);
            }
        }
        let (maker, brand, size) = (dice.between(1, 5), dice.between(1, 5), dice.between(1, 50));
        let kind = TYPES.map(|it| dice.one(it)).join(" ");
        let container = CONTAINERS.map(|it| dice.one(it)).join(" ");
        let _ = writeln!(
            rows,
            "{key}\t{}\tManufacturer#{maker}\tBrand#{maker}{brand}\t{kind}\t{size}\t{container}\t{}\t{}",
            name.join(" "),
            money(price(key)),
            dice.text(5, 22)
        );
    }
    rows
}

fn suppliers(sizes: &Sizes) -> String {
    let mut dice = Dice::new(2);
    let mut rows = String::new();
    for key in 1..=sizes.suppliers {
        let nation = dice.between(0, 24);
        // Five of ten thousand are complained about and five are recommended; here at least one each.
        let comment = match key % 2000 {
            7 => "slow Customer foxes Complaints".to_owned(),
            9 => "slow Customer foxes Recommends".to_owned(),
            _ => dice.text(25, 60),
        };
        let _ = writeln!(
            rows,
            "{key}\tSupplier#{key:09}\t{}\t{nation}\t{}\t{}\t{comment}",
            dice.text(10, 40),
            dice.phone(nation),
            dice.balance()
        );
    }
    rows
}

fn supplies(sizes: &Sizes) -> String {
    let mut dice = Dice::new(3);
    let mut rows = String::new();
    for part in 1..=sizes.parts {
        for supplier in suppliers_of(part, sizes.suppliers) {
            let (stock, cost) = (dice.between(1, 9999), dice.between(100, 100_000));
            let _ = writeln!(rows, "{part}\t{supplier}\t{stock}\t{}\t{}", money(cost), dice.text(10, 40));
        }
    }
    rows
}

fn customers(sizes: &Sizes) -> String {
    let mut dice = Dice::new(4);
    let mut rows = String::new();
    for key in 1..=sizes.customers {
        let nation = dice.between(0, 24);
        let _ = writeln!(
            rows,
            "{key}\tCustomer#{key:09}\t{}\t{nation}\t{}\t{}\t{}\t{}",
            dice.text(10, 40),
            dice.phone(nation),
            dice.balance(),
            dice.one(&SEGMENTS),
            dice.text(29, 60)
        );
    }
    rows
}

/// Orders, and their lines.
fn orders(sizes: &Sizes) -> (String, String) {
    let mut dice = Dice::new(5);
    let calendar = calendar();
    let (mut orders, mut lines) = (String::new(), String::new());
    for number in 0..sizes.orders {
        // Of 32 keys the first eight are used.
        let key = number / 8 * 32 + number % 8 + 1;
        // A third of the customers never orders.
        let customer = loop {
            let customer = dice.between(1, sizes.customers);
            if !customer.is_multiple_of(3) {
                break customer;
            }
        };
        let ordered = dice.between(0, ORDER_DAYS - 1);
        // Chance makes an order of more than 300 pieces (Q18) out of some 26,000, which is too seldom to rely on.
        let (count, least) = if number % 20_000 == 0 { (7, 45) } else { (dice.between(1, 7), 1) };
        let (mut total, mut open) = (0, 0);
        for line in 1..=count {
            let part = dice.between(1, sizes.parts);
            let supplier = suppliers_of(part, sizes.suppliers)[dice.between(0, 3)];
            let (quantity, discount, tax) = (dice.between(least, 50), dice.between(0, 10), dice.between(0, 8));
            let amount = quantity * price(part);
            total += amount * (100 + tax) * (100 - discount) / 10_000;
            let shipped = ordered + dice.between(1, 121);
            let committed = ordered + dice.between(30, 90);
            let received = shipped + dice.between(1, 30);
            let returned = if received <= TODAY { dice.one(&["R", "A"]) } else { "N" };
            let status = if shipped > TODAY { "O" } else { "F" };
            open += usize::from(shipped > TODAY);
            let _ = writeln!(
                lines,
                "{key}\t{part}\t{supplier}\t{line}\t{quantity}\t{}\t0.{discount:02}\t0.{tax:02}\t{returned}\t{status}\t{}\t{}\t{}\t{}\t{}\t{}",
                money(amount),
                calendar[shipped],
                calendar[committed],
                calendar[received],
                dice.one(&INSTRUCTIONS),
                dice.one(&MODES),
                dice.text(10, 20)
            );
        }
        let status = match open {
            0 => "F",
            it if it == count => "O",
            _ => "P",
        };
        let _ = writeln!(
            orders,
            "{key}\t{customer}\t{status}\t{}\t{}\t{}\tClerk#{:09}\t0\t{}",
            money(total),
            calendar[ordered],
            dice.one(&PRIORITIES),
            dice.between(1, sizes.clerks),
            dice.text(19, 78)
        );
    }
    (orders, lines)
}

fn calendar() -> Vec<String> {
    let mut days = Vec::new();
    for year in YEARS {
        let february = if year.is_multiple_of(4) { 29 } else { 28 };
        for (month, length) in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31].into_iter().enumerate() {
            days.extend((1..=length).map(|day| format!("{year}-{:02}-{day:02}", month + 1)));
        }
    }
    days
}
