"""PyMySQL and mysql-connector-python (pure, and with its C extension): what applications do by Python's DB-API.

    mysql_dbapi.py pymysql|connector|connector-c PORT BASE
"""

import datetime
import decimal
import sys
import tempfile
import threading
import uuid

from report import House, run, same

DRIVER, PORT, BASE = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
HOUSE = House()
INSERT = "INSERT INTO customers (id, name, email, country) VALUES (%s, %s, 'p@example.com', 'NL')"
NAME = "SELECT name FROM customers WHERE id = %s"
UPDATE = "UPDATE customers SET name = %s WHERE id = %s"

if DRIVER == "pymysql":
    import pymysql as api
    from pymysql import err as errors

    def connect(**options):
        options.setdefault("user", "demo")
        options.setdefault("autocommit", True)
        if options.pop("tls", False):
            options["ssl"] = {"ca": HOUSE.ca}
        return api.connect(host="127.0.0.1", port=PORT, database="shop", charset="utf8mb4", **options)
else:
    import mysql.connector as api
    from mysql.connector import errors, pooling

    def settings(**options):
        options.setdefault("user", "demo")
        options.setdefault("autocommit", True)
        if options.pop("tls", False):
            options |= {"ssl_ca": HOUSE.ca, "ssl_verify_cert": True}
        else:
            options["ssl_disabled"] = True
        return {"host": "127.0.0.1", "port": PORT, "database": "shop", "charset": "utf8mb4",
                "use_pure": DRIVER == "connector", **options}

    def connect(**options):
        return api.connect(**settings(**options))


class Session:
    """A connection that is closed at the end, with the shortest way to say something."""

    def __init__(self, **options):
        self.connection = connect(**options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()

    def say(self, sql, values=None, **options):
        """All rows, or the number of rows that were affected."""
        cursor = self.connection.cursor(**options)
        try:
            cursor.execute(sql, values if values is not None else ())
            return [tuple(row) for row in cursor.fetchall()] if cursor.description else cursor.rowcount
        finally:
            cursor.close()

    def customers(self, first):
        """Two customers of one shard and one of another."""
        found = HOUSE.apart(BASE + first)
        for customer in found:
            same(self.say(INSERT, (customer, DRIVER)), 1)
        return found

    def names(self, some):
        return [self.say(NAME, (customer,))[0][0] for customer in some]


def fails(number, act, kind=None):
    try:
        act()
    except api.Error as error:
        same(error.args[0], number)
        assert kind is None or isinstance(error, kind), type(error)
        return str(error)
    raise AssertionError("it succeeds")


def test_logins():
    with Session() as session:
        same(session.say("SELECT 1"), [(1,)])
    with Session(user="app", password="so secret") as session:
        same(session.say("SELECT DATABASE(), 1 + 1"), [("shop", 2)])
    fails(1045, lambda: connect(user="app", password="wrong"))
    fails(1045, lambda: connect(user="nobody", password="wrong"))


def test_logins_with_tls():
    with Session(user="app", password="so secret", tls=True) as session:
        same(session.say(NAME, (7,)), [("Amber Paper 7",)])
    fails(1045, lambda: connect(user="app", password="wrong", tls=True))


def test_rows_are_found_where_they_were_written():
    with Session() as session:
        same(session.names(session.customers(0)), [DRIVER] * 3)
        a, b, c = HOUSE.apart(BASE)
        rows = session.say("SELECT id, name FROM customers WHERE id IN (%s, %s, %s)", (a, b, c))
        same(sorted(rows), sorted((key, DRIVER) for key in (a, b, c)))
        same(session.say("DELETE FROM customers WHERE id = %s", (a,)), 1)
        same(session.say(NAME, (a,)), [])


def test_affected_and_found_rows():
    with Session() as session:
        a, _, _ = session.customers(50)
        same(session.say(UPDATE, ("new", a)), 1)
        same(session.say(UPDATE, ("new", a)), 0)
    option = {"client_flag": api.constants.CLIENT.FOUND_ROWS} if DRIVER == "pymysql" else {"client_flags": [api.constants.ClientFlag.FOUND_ROWS]}
    with Session(**option) as session:
        same(session.say(UPDATE, ("new", a)), 1)


def test_a_transaction_commits_and_rolls_back():
    with Session(autocommit=False) as session:
        a, b, _ = session.customers_of_one(100)
        session.say(UPDATE, ("lost", a))
        session.say(UPDATE, ("lost", b))
        session.connection.rollback()
        same(session.names((a, b)), [DRIVER] * 2)
        session.say(UPDATE, ("x", a))
        session.say(UPDATE, ("y", b))
        session.connection.commit()
        with Session() as other:
            same(other.names((a, b)), ["x", "y"])


def test_savepoints():
    with Session() as session:
        a, b, _ = session.customers(150)
        session.say("START TRANSACTION")
        session.say(UPDATE, ("kept", a))
        session.say("SAVEPOINT one")
        session.say(UPDATE, ("lost", b))
        session.say("ROLLBACK TO SAVEPOINT one")
        session.say("RELEASE SAVEPOINT one")
        session.say("COMMIT")
        same(session.names((a, b)), ["kept", DRIVER])


def test_executemany():
    with Session() as session:
        here = [key for key in range(BASE + 200, BASE + 300) if key in HOUSE.first][:20]
        cursor = session.connection.cursor()
        # Both drivers make one INSERT of many rows of it.
        cursor.executemany("INSERT INTO customers (id, name, email, country) VALUES (%s, %s, %s, %s)",
                           [(key, f"many {key}", "m@example.com", "NL") for key in here])
        same(cursor.rowcount, len(here))
        cursor.executemany(UPDATE, [(f"again {key}", key) for key in here])
        same(cursor.rowcount, len(here))
        cursor.close()
        same(session.names(here), [f"again {key}" for key in here])


def test_a_file_is_loaded():
    option = {"local_infile": True} if DRIVER == "pymysql" else {"allow_local_infile": True}
    keys = range(BASE + 2500, BASE + 2900)
    # Of both shards.
    assert any(key in HOUSE.first for key in keys) and any(key not in HOUSE.first for key in keys)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".csv") as file, Session(**option) as session:
        file.write("id,name,email,country\n")
        file.writelines(f'{key},"file, {key} é",f@example.com,NL\n' for key in keys)
        file.flush()
        load = (f"LOAD DATA LOCAL INFILE '{file.name}' INTO TABLE customers CHARACTER SET utf8mb4 FIELDS TERMINATED BY ',' "
                "OPTIONALLY ENCLOSED BY '\"' IGNORE 1 LINES (id, name, email, country)")
        same(session.say(load), len(keys))
        same(session.names((keys[0], keys[-1])), [f"file, {keys[0]} é", f"file, {keys[-1]} é"])
        # All of them are there.
        same(session.say(load), 0)
        same(session.say("DELETE FROM customers WHERE id >= %s AND id <= %s", (keys[0], keys[-1])), len(keys))


def test_errors_are_the_servers_own():
    with Session() as session:
        a, _, _ = session.customers(350)
        text = fails(1062, lambda: session.say(INSERT, (a, "twice")), errors.IntegrityError)
        assert f"Duplicate entry '{a}' for key 'PRIMARY'" in text, text
        fails(1064, lambda: session.say("SELEC 1"), errors.ProgrammingError)
        fails(1054, lambda: session.say("SELECT nothing FROM customers WHERE id = 7"))
        fails(1146, lambda: session.say("SELECT * FROM no_such_table"), errors.ProgrammingError)
        fails(1048, lambda: session.say("INSERT INTO customers (id, name, email, country) VALUES (%s, NULL, '', '')", (a + 1000,)),
              errors.IntegrityError)
        fails(1406, lambda: session.say(UPDATE, ("x" * 300, a)), errors.DataError)
        fails(1452, lambda: session.say("INSERT INTO orders (id, customer_id) VALUES (1, %s)", (a + 1000,)), errors.IntegrityError)
        # And the session goes on.
        same(session.names((a,)), [DRIVER])


VALUES = {
    "tiny": -128, "small": -32768, "medium": 8388607, "normal": -2147483648, "big": 18446744073709551615,
    "single": 0.5, "twice": -1.25e300, "exact": decimal.Decimal("-12345678901234.567890"), "flag": 1,
    "padded": "ten", "words": "Grüße, 世界, 🌍, it's \"quoted\" \\ %s ; -- no comment", "pages": "", "letters": "ö" * 1000,
    "raw": b"\x00\xff'\\\"", "bytes": bytes(range(256)) * 4, "day": datetime.date(2024, 2, 29),
    "clock": datetime.timedelta(hours=25, minutes=1, microseconds=500000), "moment": datetime.datetime(2020, 1, 2, 3, 4, 5, 678901),
    "stamp": datetime.datetime(1999, 12, 31, 23, 59, 59, 999999), "vintage": 2026, "choice": "b", "doc": '{"k": [1, null]}',
    "tag": str(uuid.UUID(int=7)),
}


def test_all_types_and_nulls():
    with Session() as session:
        names = list(VALUES)
        insert = f"INSERT INTO typed (id, {', '.join(names)}) VALUES (%s{', %s' * len(names)})"
        select = f"SELECT {', '.join(names)} FROM typed WHERE id = %s"
        a, b, c = HOUSE.apart(BASE + 400)
        for key in (a, c):
            same(session.say(insert, (key, *VALUES.values())), 1)
            for name, got, wanted in zip(names, session.say(select, (key,))[0], VALUES.values()):
                got = got.encode() if isinstance(wanted, bytes) and isinstance(got, str) else got
                got = got.decode() if isinstance(wanted, str) and isinstance(got, (bytes, bytearray)) else got
                same((name, got), (name, wanted))
        same(session.say(insert, (b, *[None] * len(names))), 1)
        same(session.say(select, (b,)), [(None,) * len(names)])


def test_large_values():
    with Session() as session:
        a, _, c = HOUSE.apart(BASE + 450)
        for key, size in ((a, 100_000), (c, 5_000_000)):
            value = bytes(range(251)) * (size // 251)
            same(session.say("INSERT INTO typed (id, bytes) VALUES (%s, %s)", (key, value)), 1)
            (got,), = session.say("SELECT bytes FROM typed WHERE id = %s", (key,))
            assert bytes(got) == value, f"{size} bytes do not come back"
            same(session.say("SELECT length(bytes), md5(bytes) FROM typed WHERE id = %s", (key,))[0][0], len(value))


def test_unions_of_shards():
    with Session() as session:
        found = session.customers(500)
        rows = session.say("SELECT c.id, n.name FROM customers c JOIN countries n ON n.code = c.country WHERE c.id IN (%s, %s, %s)", found)
        same(sorted(rows), sorted((key, "Netherlands") for key in found))
        same(len(session.say("SELECT id FROM customers WHERE id <= 1000")), 1000)


def test_settings_stay_with_the_session():
    with Session() as session, Session() as other:
        session.say("SET SESSION lock_wait_timeout = 77")
        session.say("SET time_zone = '+05:00'")
        for one, zone in ((session, "+05:00"), (other, None)):
            for _ in range(3):
                got = one.say("SELECT @@session.time_zone")[0][0]
                assert (got == zone) == (zone is not None), got


def test_many_sessions_at_once():
    outcomes = []

    def act(number):
        try:
            with Session() as session:
                a, b, c = session.customers(1000 + 50 * number)
                for turn in range(5):
                    for key in (a, b, c):
                        session.say(UPDATE, (f"{number} {turn}", key))
                same(session.names((a, b, c)), [f"{number} 4"] * 3)
            outcomes.append(None)
        except Exception as error:
            outcomes.append(error)

    threads = [threading.Thread(target=act, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    same(outcomes, [None] * 8)


if DRIVER == "pymysql":
    def test_other_cursors():
        with Session() as session:
            row = session.connection.cursor(api.cursors.DictCursor)
            row.execute(NAME, (7,))
            same(row.fetchone(), {"name": "Amber Paper 7"})
            row.close()
            # Rows as they come.
            stream = session.connection.cursor(api.cursors.SSCursor)
            stream.execute("SELECT id FROM customers WHERE id <= 1000")
            same(sum(1 for _ in stream), 1000)
            stream.close()
            same(session.names((7,)), ["Amber Paper 7"])

    def test_several_statements():
        with Session(client_flag=api.constants.CLIENT.MULTI_STATEMENTS) as session:
            a, _, c = session.customers(550)
            cursor = session.connection.cursor()
            cursor.execute(f"UPDATE customers SET name = 'm' WHERE id = {a}; {NAME % a}; {NAME % c}; SELECT 1 AS one, 2 AS two")
            same(cursor.rowcount, 1)
            found = []
            while cursor.nextset():
                found.append(cursor.fetchall())
            same(found, [(("m",),), ((DRIVER,),), ((1, 2),)])
            # The rest is not done after an error.
            cursor.execute(f"SELECT 1; {INSERT % (a, 1)}; UPDATE customers SET name = 'x' WHERE id = {c}")
            fails(1062, cursor.nextset)
        with Session() as session:
            same(session.names((c,)), [DRIVER])

    def test_ping_and_select_db():
        with Session() as session:
            session.connection.ping(reconnect=False)
            session.connection.select_db("shop")
            fails(1044, lambda: session.connection.select_db("no_such_database"))
            same(session.names((7,)), ["Amber Paper 7"])

    def test_warnings():
        with Session() as session:
            session.say("SET SESSION sql_mode = ''")
            a, _, _ = session.customers(600)
            cursor = session.connection.cursor()
            cursor.execute(UPDATE, ("x" * 300, a))
            same(cursor.warning_count, 1)
            cursor.execute("SHOW WARNINGS")
            same(cursor.fetchall()[0][:2], ("Warning", 1265))
else:
    def test_prepared_statements():
        with Session() as session:
            found = session.customers(550)
            cursor = session.connection.cursor(prepared=True)
            for _ in range(2):
                for key in (*found, 7):
                    cursor.execute("SELECT name, id, created_at FROM customers WHERE id = %s", (key,))
                    name, number, moment = cursor.fetchone()
                    same((name, number), ("Amber Paper 7" if key == 7 else DRIVER, key))
                    assert isinstance(moment, datetime.datetime), moment
            cursor.close()
            cursor = session.connection.cursor(prepared=True)
            cursor.execute("INSERT INTO typed (id, words, bytes, exact, moment, twice) VALUES (%s, %s, %s, %s, %s, %s)",
                           (found[2], "prepared ö", b"\x00\xff", decimal.Decimal("1.5"), datetime.datetime(2020, 1, 1), None))
            cursor.execute("SELECT words, bytes, exact, moment, twice FROM typed WHERE id = %s", (found[2],))
            words, raw, *rest = cursor.fetchone()
            same((words, bytes(raw), *rest), ("prepared ö", b"\x00\xff", decimal.Decimal("1.5"), datetime.datetime(2020, 1, 1), None))
            cursor.close()

    def test_other_cursors():
        with Session() as session:
            cursor = session.connection.cursor(dictionary=True)
            cursor.execute(NAME, (7,))
            same(cursor.fetchone(), {"name": "Amber Paper 7"})
            cursor.close()
            cursor = session.connection.cursor(buffered=True)
            cursor.execute("SELECT id FROM customers WHERE id <= 1000")
            same(cursor.rowcount, 1000)
            cursor.close()
            cursor = session.connection.cursor(raw=True)
            cursor.execute("SELECT id FROM customers WHERE id = 7")
            same(bytes(cursor.fetchone()[0]), b"7")
            cursor.close()

    def test_a_session_as_new():
        with Session() as session:
            session.say("SET @a = 1, time_zone = '+05:00'")
            session.connection.cmd_reset_connection()
            assert session.say("SELECT @@time_zone")[0][0] != "+05:00"
            same(session.names((7,)), ["Amber Paper 7"])

    def test_ping_and_init_db():
        with Session() as session:
            assert session.connection.is_connected()
            session.connection.ping()
            session.connection.database = "shop"
            same(session.connection.database, "shop")


def one_shard(self, first):
    """Three customers of one shard."""
    found = [key for key in range(BASE + first, BASE + first + 49) if key in HOUSE.first][:3]
    for customer in found:
        self.say(INSERT, (customer, DRIVER))
        # A transaction of its own, whatever the session's mode.
        self.connection.commit()
    return found


Session.customers_of_one = one_shard

run(DRIVER, sys.modules[__name__])
