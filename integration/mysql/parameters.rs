//! Statements that are prepared once and executed with parameters.

use crate::client::Value;

/// How a statement with parameters is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Is {
    Alike,
    Refused,
    Either,
}
use Is::Alike;
use Is::Either;
use Is::Refused;

/// A statement, and the parameters of each of its executions.
pub(crate) type Parameters = (Is, &'static str, &'static [&'static [Value<'static>]]);

use Value::Bytes;
use Value::Date;
use Value::Decimal;
use Value::Double;
use Value::Int;
use Value::Long;
use Value::Null;
use Value::Text;
use Value::Tiny;
use Value::Unsigned;

pub(crate) const PARAMETERS: &[Parameters] = &[
    (
        Alike,
        "SELECT * FROM t WHERE id = ?",
        &[&[Long(1)], &[Long(2)], &[Long(99)], &[Int(3)], &[Tiny(4)], &[Unsigned(5)]],
    ),
    (Alike, "SELECT a FROM t WHERE id = ? AND a > ?", &[&[Long(1), Int(0)], &[Long(2), Int(100)], &[Long(3), Null]]),
    (
        Alike,
        "SELECT a, ? AS p FROM t WHERE id = ?",
        &[&[Text("x"), Long(1)], &[Null, Long(2)], &[Double(0.5), Long(3)]],
    ),
    (Alike, "SELECT id, a FROM t WHERE a > ?", &[&[Int(0)], &[Int(55)], &[Null]]),
    (Alike, "SELECT id FROM t WHERE id IN (?, ?, ?)", &[&[Long(1), Long(2), Long(3)], &[Long(4), Long(4), Long(99)]]),
    (
        Either,
        "SELECT a FROM t WHERE id = ?",
        &[&[Text("1")], &[Text("1x")], &[Null], &[Double(1.0)], &[Double(1.5)], &[Decimal("2")]],
    ),
    // As JavaScript sends its numbers.
    (Alike, "SELECT a FROM t WHERE id = ?", &[&[Double(1.0)], &[Double(7.0)], &[Double(-0.0)], &[Double(99.0)]]),
    (Alike, "SELECT id, a FROM t WHERE id IN (?, ?, ?)", &[&[Double(1.0), Long(2), Double(8.0)]]),
    (Alike, "UPDATE t SET a = ? WHERE id = ?", &[&[Double(2.0), Double(2.0)], &[Double(2.5), Double(3.0)]]),
    (Alike, "INSERT INTO t (id, a) VALUES (?, ?)", &[&[Double(100.0), Double(1.0)], &[Double(-101.0), Null]]),
    (
        Either,
        "SELECT a FROM t WHERE id IN (?, ?)",
        &[&[Double(9007199254740992.0), Long(1)], &[Long(9007199254740993), Double(1.0)], &[Double(1e300), Long(2)]],
    ),
    (Either, "SELECT n FROM fruits WHERE name = ?", &[&[Double(1.0)], &[Double(0.0)]]),
    (Either, "SELECT a FROM t WHERE id = ? + 1", &[&[Long(1)]]),
    (
        Alike,
        "SELECT n, raw FROM fruits WHERE name = ?",
        &[&[Text("apple")], &[Text("Apple")], &[Text("")], &[Text("plum ")]],
    ),
    (Either, "SELECT n FROM fruits WHERE name = ?", &[&[Bytes(b"apple")], &[Long(0)], &[Text("ö")]]),
    (
        Either,
        "SELECT n FROM uuids WHERE u = ?",
        &[&[Text("0b8e1a2c-3d4e-4f5a-8b6c-7d8e9f0a1b2c")], &[Text("nonsense")]],
    ),
    (Alike, "SELECT * FROM solo WHERE n = ?", &[&[Long(1)], &[Long(2)]]),
    (Alike, "SELECT * FROM refs WHERE code = ?", &[&[Text("de")], &[Text("xx")]]),
    (Alike, "SELECT ?, ? + 1", &[&[Long(1), Long(2)], &[Text("x"), Null], &[Date(2020, 2, 29), Decimal("1.50")]]),
    (Alike, "SELECT no FROM items WHERE id = ? ORDER BY no LIMIT ?", &[&[Long(1), Long(1)], &[Long(1), Long(5)]]),
    (
        Alike,
        "INSERT INTO t (id, a, note) VALUES (?, ?, ?)",
        &[&[Long(301), Int(1), Text("n")], &[Long(302), Null, Null], &[Long(301), Int(2), Null]],
    ),
    (Alike, "INSERT INTO items (id, no) VALUES (?, 1), (?, 2)", &[&[Long(301), Long(301)]]),
    (
        Alike,
        "INSERT INTO items (id, no) VALUES (?, 1), (?, 1), (?, 1), (?, 1), (?, 1), (?, 1)",
        &[&[Long(310), Long(311), Long(312), Long(313), Long(314), Long(315)]],
    ),
    (
        Alike,
        "INSERT INTO t (id, a, note) VALUES (?, 1, ?), (?, ?, 'x'), (?, 3, ?) ON DUPLICATE KEY UPDATE a = ?",
        &[
            &[Long(321), Text("p"), Long(322), Int(9), Long(323), Null, Int(7)],
            &[Long(1), Text("p"), Long(2), Int(9), Long(3), Text("q"), Int(7)],
        ],
    ),
    (
        Alike,
        "INSERT INTO orders (id, who) VALUES (?, ?)",
        &[&[Null, Int(1)], &[Long(0), Int(2)], &[Text("0"), Int(3)], &[Long(1), Int(1)]],
    ),
    (
        Alike,
        "INSERT INTO orders (who, note) VALUES (?, ?), (?, 'n')",
        &[&[Int(1), Text("a"), Int(2)], &[Null, Null, Null]],
    ),
    (
        Alike,
        "INSERT INTO orders VALUES (0, ?, 'a'), (?, 2, ?), (DEFAULT, 3, ?)",
        &[&[Int(1), Null, Text("b"), Text("c")], &[Int(1), Long(0), Null, Text("d")]],
    ),
    (Alike, "INSERT INTO orders SET who = ?, id = ?", &[&[Int(1), Null], &[Int(1), Long(0)]]),
    (Alike, "INSERT INTO parts (id, what) VALUES (?, ?), (?, ?)", &[&[Long(5), Text("e"), Long(6), Text("f")]]),
    (
        Alike,
        "INSERT INTO fruits VALUES (?, ?, ?)",
        &[&[Text("nut"), Unsigned(1), Bytes(b"\0\xff")], &[Text("fig"), Unsigned(4_294_967_295), Null]],
    ),
    (Alike, "INSERT INTO solo (v, day) VALUES (?, ?)", &[&[Text("p"), Date(2024, 12, 31)], &[Null, Null]]),
    (Alike, "UPDATE t SET a = a + ? WHERE id = ?", &[&[Int(1), Long(1)], &[Int(0), Long(1)], &[Int(1), Long(99)]]),
    (Alike, "DELETE FROM items WHERE id = ? AND no = ?", &[&[Long(1), Int(1)], &[Long(1), Int(1)]]),
    (Alike, "REPLACE INTO t (id, a) VALUES (?, ?)", &[&[Long(1), Int(7)], &[Long(303), Int(8)]]),
    (
        Alike,
        "INSERT INTO t (id, a) VALUES (?, ?) ON DUPLICATE KEY UPDATE a = a + VALUES(a)",
        &[&[Long(1), Int(7)], &[Long(304), Int(8)]],
    ),
    (Alike, "SELECT COUNT(*) FROM t WHERE a > ?", &[&[Int(0)], &[Int(1000)], &[Null], &[Text("x")]]),
    (Alike, "SELECT id FROM t WHERE a > ? ORDER BY id", &[&[Int(0)], &[Int(0)], &[Int(30)]]),
    (
        Alike,
        "SELECT SUM(a) FROM t WHERE id BETWEEN ? AND ?",
        &[&[Int(2), Int(5)], &[Long(2), Long(5)], &[Null, Int(5)], &[Text("2"), Text("5")]],
    ),
    (
        Alike,
        "SELECT DISTINCT note FROM t WHERE id BETWEEN ? AND ? ORDER BY note",
        &[&[Int(1), Int(8)], &[Int(100), Int(1)]],
    ),
    (
        Alike,
        "SELECT id, ? AS x, note FROM t WHERE id > ? ORDER BY note, id LIMIT ?",
        &[&[Text("y"), Long(1), Long(3)], &[Null, Long(0), Long(2)]],
    ),
    (
        Alike,
        "SELECT x.id FROM t x JOIN t y ON x.a = y.a + ? WHERE x.id <> ? ORDER BY 1",
        &[&[Int(10), Int(3)], &[Decimal("10.0"), Int(3)]],
    ),
    (Alike, "SELECT id, fl, db, tm, ts FROM kinds WHERE id >= ? ORDER BY id", &[&[Int(1)], &[Int(3)]]),
    (Refused, "UPDATE t SET id = ? WHERE id = 1", &[&[Long(400)]]),
    (Alike, "DELETE FROM t WHERE a = ?", &[&[Int(10)]]),
    (Alike, "SELECT nope FROM t WHERE id = ?", &[&[Long(1)]]),
    (Alike, "SELECT a FROM nope WHERE id = ?", &[&[Long(1)]]),
    (Alike, "SELEC ?", &[&[Long(1)]]),
    (Alike, "BEGIN", &[&[]]),
    (Alike, "SET @a = ?", &[&[Long(1)], &[Text("x")], &[Null]]),
    (Alike, "SET @a = ?, @b = ? + 1, sql_mode = ?", &[&[Long(1), Int(2), Text("ANSI_QUOTES")]]),
    (Either, "USE information_schema", &[&[]]),
];
