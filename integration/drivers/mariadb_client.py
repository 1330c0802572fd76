"""The client of the command line, as people use it: statements, scripts, commands of its own, tables as they look."""

import subprocess
import sys

from report import House, arguments, run, same

PORT, BASE = arguments()
HOUSE = House()
INSERT = "INSERT INTO customers (id, name, email, country) VALUES ({0}, 'client', 'p@example.com', 'NL')"


def mariadb(*more, stdin=None, user=("-u", "demo")):
    """Standard output and standard error."""
    command = ["mariadb", "--no-defaults", "-h", "127.0.0.1", "-P", str(PORT), *user, *more]
    # Values may be bytes of any kind.
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, errors="surrogateescape", timeout=60, check=False)
    return done.stdout.strip(), done.stderr.strip()


def say(sql, *more):
    out, err = mariadb("-N", *more, "shop", "-e", sql)
    same(err, "")
    return out


def refusal(sql, *more):
    out, err = mariadb("-N", *more, "shop", "-e", sql)
    same(out, "")
    return err.splitlines()[-1]


def customers(begin):
    found = HOUSE.apart(BASE + begin)
    for customer in found:
        say(INSERT.format(customer))
    return found


def test_logins():
    out, err = mariadb("-N", "shop", "-e", "SELECT DATABASE()", user=("-u", "app", "-pso secret"))
    same((out, err), ("shop", ""))
    secret = ("-u", "app", "-pso secret", f"--ssl-ca={HOUSE.ca}", "--ssl-verify-server-cert")
    out, err = mariadb("-N", "shop", "-e", "SELECT name FROM customers WHERE id = 7", user=secret)
    same((out, err), ("Amber Paper 7", ""))
    _, err = mariadb("shop", "-e", "SELECT 1", user=("-u", "app", "-pwrong"))
    assert err.startswith("ERROR 1045 (28000): Access denied for user 'app'"), err
    _, err = mariadb("no_such_database", "-e", "SELECT 1")
    assert err.startswith("ERROR 1044 (42000): Access denied"), err


def test_rows_are_found_where_they_were_written():
    found = customers(0)
    for customer in found:
        same(say(f"SELECT name FROM customers WHERE id = {customer}"), "client")
    some = ", ".join(map(str, found))
    same(sorted(say(f"SELECT id FROM customers WHERE id IN ({some})").split()), sorted(map(str, found)))


def test_tables_as_they_look():
    out, err = mariadb("--table", "shop", "-e", "SELECT name, country FROM customers WHERE id = 7")
    same((out.splitlines()[1:4], err), (["| name          | country |", "+---------------+---------+", "| Amber Paper 7 | PL      |"], ""))
    out, err = mariadb("--vertical", "shop", "-e", "SELECT name FROM customers WHERE id = 7")
    same((out.splitlines()[-1], err), ("name: Amber Paper 7", ""))


def test_a_script_is_a_transaction_where_it_says_so():
    a, b, c = customers(50)
    script = f"""-- A comment
BEGIN;
UPDATE customers SET name = 'lost' WHERE id = {a};
ROLLBACK;
START TRANSACTION;
UPDATE customers SET name = 'kept' WHERE id = {a}; # and another
SAVEPOINT one;
UPDATE customers SET name = 'lost' WHERE id = {b};
ROLLBACK TO one;
COMMIT;
DELIMITER //
SELECT name FROM customers WHERE id = {a}; SELECT name FROM customers WHERE id = {b}//
DELIMITER ;
SELECT name FROM customers WHERE id = {c};
"""
    out, err = mariadb("-N", "shop", stdin=script)
    same((out.split(), err), (["kept", "client", "client"], ""))


def test_a_script_ends_at_its_first_error():
    a, _, _ = customers(100)
    script = f"{INSERT.format(a)};\nUPDATE customers SET name = 'x' WHERE id = {a};\n"
    _, err = mariadb("shop", stdin=script)
    assert "ERROR 1062 (23000) at line 1: Duplicate entry" in err, err
    same(say(f"SELECT name FROM customers WHERE id = {a}"), "client")
    _, err = mariadb("--force", "shop", stdin=script)
    assert "ERROR 1062" in err, err
    same(say(f"SELECT name FROM customers WHERE id = {a}"), "x")


def test_what_it_asks_when_it_starts_and_commands_of_its_own():
    # With --auto-rehash it reads all tables and their columns, as it does for a person.
    out, err = mariadb("--auto-rehash", "-N", "shop", stdin="\\u shop\nstatus\nSELECT name FROM customers WHERE id = 7;\n")
    same(err, "")
    assert "Server version:" in out and "Amber Paper 7" in out and "Current database:\tshop" in out, out
    out, err = mariadb("-N", stdin="USE shop\nSELECT DATABASE();\n")
    same((out, err), ("shop", ""))
    out, err = mariadb("-vvv", "shop", "-e", "UPDATE customers SET name = name WHERE id = 7")
    assert "Query OK, 0 rows affected" in out and "Rows matched: 1  Changed: 0  Warnings: 0" in out, out + err


def test_what_is_there():
    same(set(say("SHOW TABLES").split()) >= {"countries", "customers", "order_items", "orders", "settings"}, True)
    assert "shop" in say("SHOW DATABASES").split()
    assert "shardway" not in say("show databases;").split()
    assert "customers" in say("SHOW CREATE TABLE customers")
    same(say("DESCRIBE countries").splitlines()[0].split("\t")[:2], ["code", "varchar(2)"])
    same(say("SHOW COLUMNS FROM customers").split("\t")[0], "id")
    assert say("SHOW VARIABLES LIKE 'version'").startswith("version")


def test_warnings_are_shown():
    a, _, _ = customers(150)
    out, err = mariadb("--show-warnings", "shop", stdin=f"SET sql_mode = ''; UPDATE customers SET name = repeat('x', 300) WHERE id = {a};")
    same(err, "")
    assert "Warning (Code 1265): Data truncated for column 'name'" in out, out


def test_errors_are_the_servers_own():
    a, _, _ = customers(200)
    assert refusal(INSERT.format(a)).startswith(f"ERROR 1062 (23000) at line 1: Duplicate entry '{a}' for key 'PRIMARY'")
    assert refusal("SELEC 1").startswith("ERROR 1064 (42000)")
    assert refusal("SELECT nothing FROM customers WHERE id = 7").startswith("ERROR 1054 (42S22)")
    assert refusal("SELECT * FROM no_such_table").startswith("ERROR 1146 (42S02)")


def dumped(*tables, port=PORT):
    """What mariadb-dump writes of tables. It would lock what it reads, and tell whoever reads it to do so, which is not done over
    several shards; and write bytes as they are, which cannot be cut into rows for several."""
    command = ["mariadb-dump", "--no-defaults", "-h", "127.0.0.1", "-P", str(port), "-u", "demo", "--skip-lock-tables",
               "--skip-add-locks", "--hex-blob", "shop", *tables]
    done = subprocess.run(command, capture_output=True, text=True, errors="surrogateescape", timeout=60, check=False)
    same((done.returncode, done.stderr), (0, ""))
    return done.stdout


def test_what_is_dumped_can_be_loaded():
    a, b, c = HOUSE.apart(BASE + 250)
    say(f"INSERT INTO writers VALUES ({a}, 'ö''s', NULL), ({b}, '', '2000-02-29'), ({c}, 'x', NULL)")
    say(f"INSERT INTO books VALUES ({a}, 1, 'one', 1.5), ({c}, 1, 'two', 2)")
    say(f"INSERT INTO typed (id, bits, bytes, stamp, padded) VALUES ({a}, b'101', x'00ff275c', '2020-01-02 03:04:05.5', ' x'), "
        f"({c}, NULL, '', NULL, NULL)")
    say("INSERT INTO notes (body) VALUES ('dumped; 1'), ('dumped''s 2')")
    tables = {"writers": "id", "books": "writer_id", "typed": "id", "notes": "id"}

    def rows():
        return {table: say(f"SET time_zone = '+00:00'; SELECT * FROM {table} ORDER BY {key}") for table, key in tables.items()}

    before = rows()
    assert str(a) in before["typed"] and str(c) in before["typed"], before
    text = dumped(*tables)
    # Rows that come behind the dump are not in it: its tables are made anew.
    say(f"INSERT INTO writers VALUES ({b + 1000}, 'later', NULL)")
    same(mariadb("shop", stdin=text), ("", ""))
    same(rows(), before)
    # What one server has, dumped past the proxy, goes to its shards as well.
    port = (HOUSE.folder / "shard-map.yaml").read_text().split("name: s1-a, host: 127.0.0.1, port: ")[1].split("}")[0]
    here = dumped("writers", "books", port=port)
    same(mariadb("shop", stdin=here), ("", ""))
    same(say(f"SELECT id FROM writers WHERE id IN ({a}, {b}, {c}) ORDER BY id").split(), sorted(map(str, (a, b))))
    # The whole of it once more; what locks says what to leave out.
    same(mariadb("shop", stdin=text), ("", ""))
    same(rows(), before)
    assert "--skip-add-locks" in refusal("LOCK TABLES writers WRITE")


def test_the_admin_program():
    login = ["--no-defaults", "-h", "127.0.0.1", "-P", str(PORT), "-u", "demo"]
    done = subprocess.run(["mariadb-admin", *login, "ping"], capture_output=True, text=True, timeout=60, check=False)
    same((done.stdout.strip(), done.stderr), ("mysqld is alive", ""))


run("mariadb", sys.modules[__name__])
