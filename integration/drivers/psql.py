"""psql, which speaks through libpq: single statements, scripts, \\d, COPY, cancel, and what must be refused."""

import signal
import subprocess
import sys

from report import apart, arguments, run, same

PORT, BASE = arguments()
URL = f"postgres://demo@127.0.0.1:{PORT}/shop"
INSERT = "INSERT INTO customers (id, name, email, country) VALUES ({0}, 'psql', 'p@example.com', 'NL')"


def psql(*arguments, stdin=None, url=URL):
    """Standard output and standard error; errors as their SQLSTATE only."""
    command = ["psql", "-X", "-q", "-A", "-t", "-v", "VERBOSITY=sqlstate", url, *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60)
    return done.stdout.strip(), done.stderr.strip()


def statement(sql):
    out, err = psql("-c", sql)
    same(err, "")
    return out


def one(sql):
    """An error's SQLSTATE."""
    out, err = psql("-c", sql)
    same(out, "")
    return err.split()[-1]


def customers(first, count=8):
    """Inserts customers, each in a transaction of its own; where each one's primary listens."""
    ports = {}
    for customer in range(BASE + first, BASE + first + count):
        ports[customer] = statement(INSERT.format(customer) + " RETURNING inet_server_port()")
    return ports


def test_rows_are_found_where_they_were_written():
    ports = customers(0)
    for customer in ports:
        same(statement(f"SELECT name FROM customers WHERE id = {customer}"), "psql")
    apart(ports)


def test_describing_tables_works():
    out, err = psql("-P", "tuples_only=off", "-c", "\\d orders")
    assert "customer_id|bigint" in out and '"orders_pkey" PRIMARY KEY, btree (customer_id, id)' in out, out + err
    names = [line.split("|")[1] for line in statement("\\dt").splitlines()]
    same(names, ["countries", "customers", "order_items", "orders", "settings"])
    for command in ["\\l", "\\du", "\\dn", "\\df", "\\di", "\\d+ customers", "\\dp"]:
        statement(command)


def test_a_script_in_one_shard_is_one_transaction():
    a, b, _ = apart(customers(100))
    script = f"BEGIN; UPDATE customers SET name = 'x' WHERE id = {a}; UPDATE customers SET name = 'y' WHERE id = {b}; COMMIT"
    statement(script)
    same(statement(f"SELECT name FROM customers WHERE id = {a}"), "x")
    same(statement(f"SELECT name FROM customers WHERE id = {b}"), "y")
    # Without BEGIN, one simple Query is a transaction all the same: its end takes back its beginning.
    same(one(f"UPDATE customers SET name = 'z' WHERE id = {a}; SELECT 1/0 FROM customers WHERE id = {a}"), "22012")
    same(statement(f"SELECT name FROM customers WHERE id = {a}"), "x")


def test_a_script_across_shards_is_one_transaction():
    a, b, c = apart(customers(200))
    updates = "; ".join(f"UPDATE customers SET name = 'lost' WHERE id = {n}" for n in (a, b, c))
    same(one(f"{updates}; SELECT 1/0"), "22012")
    for customer in (a, b, c):
        same(statement(f"SELECT name FROM customers WHERE id = {customer}"), "psql")
    updates = "; ".join(f"UPDATE customers SET name = 'all' WHERE id = {n}" for n in (a, b, c))
    script = updates.replace(";", "\\;") + ";\n"
    script += "".join(f"SELECT name FROM customers WHERE id = {n};\n" for n in (a, b, c))
    out, err = psql(stdin=script)
    same(err, "")
    same(out.splitlines(), ["all"] * 3)


def test_a_transaction_across_shards_commits_or_rolls_back():
    a, _, c = apart(customers(300))
    script = f"""BEGIN;
UPDATE customers SET name = 'lost' WHERE id = {a};
UPDATE customers SET name = 'lost' WHERE id = {c};
SELECT 1/0;
SELECT 1;
COMMIT;
SELECT name FROM customers WHERE id = {a};
SELECT name FROM customers WHERE id = {c};
BEGIN;
UPDATE customers SET name = 'both' WHERE id = {a};
UPDATE customers SET name = 'both' WHERE id = {c};
COMMIT;
SELECT name FROM customers WHERE id = {a};
SELECT name FROM customers WHERE id = {c};
"""
    out, err = psql(stdin=script)
    same([line.split()[-1] for line in err.splitlines()], ["22012", "25P02"])
    same(out.splitlines(), ["psql", "psql", "both", "both"])


def test_savepoints_take_back_what_another_shard_did():
    a, _, c = apart(customers(400))
    script = f"""BEGIN;
UPDATE customers SET name = 'kept' WHERE id = {a};
SAVEPOINT s;
UPDATE customers SET name = 'lost' WHERE id = {c};
ROLLBACK TO s;
COMMIT;
SELECT name FROM customers WHERE id = {a};
SELECT name FROM customers WHERE id = {c};
"""
    out, err = psql(stdin=script)
    same(err, "")
    same(out.splitlines(), ["kept", "psql"])


def test_prepared_in_sql_reaches_every_shard():
    ports = customers(500)
    lines = ["PREPARE c AS SELECT id, name FROM customers WHERE id = $1;"]
    lines += [f"EXECUTE c({customer});" for customer in ports] + ["DEALLOCATE c;", "EXECUTE c(1);"]
    out, err = psql(stdin="\n".join(lines))
    same(out.splitlines(), [f"{customer}|psql" for customer in ports])
    same(err.split()[-1], "26000")


def test_reads_of_several_shards_are_whole():
    ports = customers(600)
    some = ", ".join(map(str, ports))
    out = statement(f"SELECT id FROM customers WHERE id IN ({some})")
    same(sorted(map(int, out.splitlines())), sorted(ports))


def test_copy_out_and_in_on_one_shard():
    a = next(iter(customers(700)))
    same(statement(f"COPY (SELECT id, name FROM customers WHERE id = {a}) TO STDOUT"), f"{a}\tpsql")
    out, err = psql("-c", "\\copy settings (name, value) FROM STDIN", stdin="psql_a\t1\npsql_b\t2\n")
    same(err, "")
    same(statement("SELECT value FROM settings WHERE name = 'psql_b'"), "2")
    same(statement("DELETE FROM settings WHERE name IN ('psql_a', 'psql_b') RETURNING 1").splitlines(), ["1", "1"])


def test_copy_across_shards():
    ports = customers(800)
    apart(ports)
    for customer in ports:
        same(statement(f"DELETE FROM customers WHERE id = {customer} RETURNING 1"), "1")
    rows = "".join(f"{n}\tcopied\tc@example.com\tNL\n" for n in ports)
    # A row that fails leaves nothing of the others.
    _, err = psql("-c", "\\copy customers (id, name, email, country) FROM STDIN", stdin=rows + rows)
    same(err.split()[-1], "23505")
    for customer in ports:
        same(statement(f"SELECT id FROM customers WHERE id = {customer}"), "")
    _, err = psql("-c", "\\copy customers (id, name, email, country) FROM STDIN", stdin=rows)
    same(err, "")
    for customer in ports:
        same(statement(f"SELECT name FROM customers WHERE id = {customer}"), "copied")
    listed = ", ".join(map(str, ports))
    same(statement(f"SELECT count(DISTINCT created_at) FROM customers WHERE id IN ({listed})"), "1")


def test_several_rows_of_several_shards():
    ports = customers(900)
    apart(ports)
    for customer in ports:
        same(statement(f"DELETE FROM customers WHERE id = {customer} RETURNING 1"), "1")
    values = ", ".join(f"({n}, 'n', 'e', 'NL')" for n in ports)
    insert = f"INSERT INTO customers (id, name, email, country) VALUES {values}"
    same(one(f"{insert}, ({next(iter(ports))}, 'again', 'e', 'NL')"), "23505")
    same(statement(f"{insert} RETURNING id").splitlines(), [str(n) for n in ports])
    for customer in ports:
        same(statement(f"SELECT name FROM customers WHERE id = {customer}"), "n")


def test_ctrl_c_cancels():
    # A Ctrl-C before the statement is on its way ends psql without a word; then it is tried again, later.
    for wait in (0.2, 0.5, 1, 2, 4):
        command = ["psql", "-X", "-v", "VERBOSITY=sqlstate", URL]
        running = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        running.stdin.write("\\echo now\nSELECT pg_sleep(50);\n")
        running.stdin.flush()
        try:
            running.wait(wait)
        except subprocess.TimeoutExpired:
            running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=30)
        if err:
            same(err.split()[-1], "57014")
            return
    raise AssertionError("psql never heard of a cancel")


def test_errors_are_the_servers_own():
    same(one("SELECT * FROM no_such_table"), "42P01")
    same(one("SELEC 1"), "42601")
    same(one("SELECT no_such_column FROM customers WHERE id = 7"), "42703")
    a = next(iter(customers(1000)))
    same(one(INSERT.format(a)), "23505")
    same(one("INSERT INTO customers (id, name, email, country) VALUES (NULL, 'n', 'e', 'NL')"), "23502")


def test_settings_of_a_session_stay_with_it():
    script = """SET work_mem = '7MB';
BEGIN; SET LOCAL work_mem = '8MB'; SHOW work_mem; ROLLBACK;
SHOW work_mem;
RESET work_mem;
SELECT current_setting('work_mem') <> '7MB';
"""
    out, err = psql(stdin=script)
    same((out.splitlines(), err), (["8MB", "7MB", "t"], ""))


def test_the_console_answers():
    out, err = psql("-c", "SHOW NODES", url=URL.replace("/shop", "/shardway"))
    same(err, "")
    same(len([line for line in out.splitlines() if line.startswith("shop|")]), 4)
    for command in ["SHOW MAP", "SHOW POOLS", "SHOW VERSION"]:
        out, err = psql("-c", command, url=URL.replace("/shop", "/shardway"))
        same(err, "")
        assert out, f"{command} shows nothing"


run("psql", sys.modules[__name__])
