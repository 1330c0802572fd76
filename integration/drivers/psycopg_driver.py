"""psycopg 3: server-side parameters, automatic prepared statements, pipelines, executemany, named cursors."""

import sys
import threading

import psycopg
from psycopg import errors

from report import apart, arguments, run, same

PORT, BASE = arguments()
INSERT = "INSERT INTO customers (id, name, email, country) VALUES (%s, %s, 'p@example.com', 'NL')"
NAME = "SELECT name FROM customers WHERE id = %s"


def connect(**options):
    options.setdefault("autocommit", True)
    return psycopg.connect(host="127.0.0.1", port=PORT, user="demo", dbname="shop", **options)


def customers(connection, first, count=8):
    ports = {}
    for customer in range(BASE + first, BASE + first + count):
        row = connection.execute(INSERT + " RETURNING inet_server_port()", (customer, "psycopg")).fetchone()
        ports[customer] = row[0]
    return ports


def names(connection, some):
    return [connection.execute(NAME, (customer,)).fetchone()[0] for customer in some]


def test_rows_are_found_where_they_were_written():
    with connect() as connection:
        ports = customers(connection, 0)
        apart(ports)
        # Beyond five executions psycopg prepares the statement; every shard has to know it.
        for _ in range(3):
            same(names(connection, ports), ["psycopg"] * len(ports))
        for binary in (False, True):
            cursor = connection.cursor(binary=binary)
            row = cursor.execute("SELECT id, total, created_at FROM orders WHERE customer_id = %b", (7,)).fetchone()
            assert row[0] in (71, 72, 73, 74) and row[2].year == 2026, row


def test_a_transaction_commits_and_rolls_back():
    with connect() as connection:
        a, b, _ = apart(customers(connection, 100))
        with connection.transaction():
            connection.execute("UPDATE customers SET name = 'x' WHERE id = %s", (a,))
            connection.execute("UPDATE customers SET name = 'y' WHERE id = %s", (b,))
        same(names(connection, (a, b)), ["x", "y"])
        try:
            with connection.transaction():
                connection.execute("UPDATE customers SET name = 'z' WHERE id = %s", (a,))
                connection.execute("SELECT 1/0")
        except errors.DivisionByZero:
            pass
        same(names(connection, (a, b)), ["x", "y"])


def test_a_second_writing_shard_takes_part():
    with connect(autocommit=False) as connection:
        connection.autocommit = True
        a, _, c = apart(customers(connection, 200))
        connection.autocommit = False
        connection.execute("UPDATE customers SET name = 'lost' WHERE id = %s", (a,))
        connection.execute("UPDATE customers SET name = 'lost' WHERE id = %s", (c,))
        connection.rollback()
        same(names(connection, (a, c)), ["psycopg", "psycopg"])
        connection.execute("UPDATE customers SET name = 'both' WHERE id = %s", (a,))
        connection.execute("UPDATE customers SET name = 'both' WHERE id = %s", (c,))
        connection.commit()
        same(names(connection, (a, c)), ["both", "both"])


def test_a_pipeline_in_one_shard():
    with connect() as connection:
        a, b, _ = apart(customers(connection, 300))
        with connection.pipeline():
            for value in range(20):
                connection.execute("UPDATE customers SET name = %s WHERE id = %s", (f"n{value}", (a, b)[value % 2]))
        same(names(connection, (a, b)), ["n18", "n19"])


def test_a_pipeline_across_shards_is_all_or_nothing():
    with connect() as connection:
        a, b, c = apart(customers(connection, 400))

        def act(name, last):
            with connection.pipeline():
                for customer in (a, b, c):
                    connection.execute("UPDATE customers SET name = %s WHERE id = %s", (name, customer))
                connection.execute(last)

        try:
            act("lost", "SELECT 1/0")
            raise AssertionError("it succeeds")
        except errors.DivisionByZero:
            pass
        same(names(connection, (a, b, c)), ["psycopg"] * 3)
        act("all", "SELECT 1")
        same(names(connection, (a, b, c)), ["all"] * 3)


def test_executemany_in_one_shard_and_across():
    with connect() as connection:
        a, b, c = apart(customers(connection, 500))
        update = "UPDATE customers SET name = %s WHERE id = %s"
        connection.cursor().executemany(update, [("m1", a), ("m2", b)])
        same(names(connection, (a, b)), ["m1", "m2"])
        connection.cursor().executemany(update, [("m3", a), ("m3", c)])
        same(names(connection, (a, c)), ["m3", "m3"])


def test_several_statements_in_one_query():
    with connect() as connection:
        a, b, c = apart(customers(connection, 600))
        update = "UPDATE customers SET name = '{}' WHERE id = {}"
        connection.execute("; ".join((update.format("s1", a), update.format("s2", b))))
        same(names(connection, (a, b)), ["s1", "s2"])
        connection.execute("; ".join((update.format("s3", a), update.format("s3", c))))
        same(names(connection, (a, c)), ["s3", "s3"])


def test_copy_out_and_in_on_one_shard():
    with connect() as connection:
        cursor = connection.cursor()
        with cursor.copy("COPY settings (name, value) FROM STDIN") as copy:
            copy.write_row(("psycopg_a", "1"))
            copy.write_row(("psycopg_b", "2"))
        with cursor.copy("COPY (SELECT id, line FROM order_items JOIN orders USING (customer_id) "
                         "WHERE orders.customer_id = 7 AND orders.id = order_id) TO STDOUT") as copy:
            rows = list(copy.rows())
        same(len(rows), connection.execute("SELECT count(*) FROM order_items WHERE customer_id = 7").fetchone()[0])
        done = connection.execute("DELETE FROM settings WHERE name IN ('psycopg_a', 'psycopg_b')")
        same(done.rowcount, 2)


def test_a_copy_that_the_client_breaks_off_leaves_nothing():
    with connect() as connection:
        try:
            with connection.cursor().copy("COPY settings (name, value) FROM STDIN") as copy:
                copy.write_row(("psycopg_broken", "1"))
                raise KeyError("the program's own")
        except KeyError:
            pass
        row = connection.execute("SELECT count(*) FROM settings WHERE name = 'psycopg_broken'").fetchone()
        same(row[0], 0)


def test_a_named_cursor_fetches_in_parts():
    with connect(autocommit=False) as connection:
        with connection.cursor(name="items") as cursor:
            cursor.itersize = 2
            cursor.execute("SELECT order_id, line FROM order_items WHERE customer_id = 7 ORDER BY 1, 2")
            rows = list(cursor)
        wanted = connection.execute("SELECT count(*) FROM order_items WHERE customer_id = 7").fetchone()[0]
        same(len(rows), wanted)
        same(rows, sorted(rows))


def test_rows_stream_one_by_one():
    with connect() as connection:
        rows = [row[0] for row in connection.cursor().stream("SELECT * FROM generate_series(1, 2000)")]
        same(rows, list(range(1, 2001)))


def test_cancel():
    with connect() as connection:
        ended = threading.Event()

        def cancel():
            while not ended.wait(0.2):
                connection.cancel()

        thread = threading.Thread(target=cancel)
        thread.start()
        try:
            connection.execute("SELECT pg_sleep(50)")
            raise AssertionError("it slept on")
        except errors.QueryCanceled:
            pass
        finally:
            ended.set()
            thread.join()
        same(connection.execute("SELECT 1").fetchone()[0], 1)


def test_listen_hears_what_another_session_says():
    with connect() as listener, connect() as speaker:
        listener.execute("LISTEN psycopg_channel")
        speaker.execute("NOTIFY psycopg_channel, 'hello'")
        heard = next(listener.notifies(timeout=30))
        same((heard.channel, heard.payload), ("psycopg_channel", "hello"))
        listener.execute("UNLISTEN *")


def test_errors_are_the_servers_own():
    with connect() as connection:
        for sql, state in [("SELECT * FROM no_such_table", "42P01"), ("SELEC 1", "42601"), ("SELECT 1/0", "22012")]:
            try:
                connection.execute(sql)
                raise AssertionError(f"{sql} succeeds")
            except psycopg.Error as error:
                same(error.sqlstate, state)
        a = next(iter(customers(connection, 700)))
        try:
            connection.execute(INSERT, (a, "twice"))
            raise AssertionError("a second row with one key")
        except errors.UniqueViolation as error:
            same(error.diag.constraint_name, "customers_pkey")


run("psycopg", sys.modules[__name__])
