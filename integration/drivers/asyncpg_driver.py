"""asyncpg: everything prepared and binary, executemany in one flight, cursors, COPY, LISTEN."""

import asyncio
import io
import sys

import asyncpg

from report import apart, arguments, run, same

PORT, BASE = arguments()
INSERT = "INSERT INTO customers (id, name, email, country) VALUES ($1, $2, 'a@example.com', 'NL')"
UPDATE = "UPDATE customers SET name = $1 WHERE id = $2"


async def connect():
    return await asyncpg.connect(host="127.0.0.1", port=PORT, user="demo", database="shop")


async def customers(connection, first, count=8):
    ports = {}
    for customer in range(BASE + first, BASE + first + count):
        ports[customer] = await connection.fetchval(INSERT + " RETURNING inet_server_port()", customer, "asyncpg")
    return ports


async def names(connection, some):
    return [await connection.fetchval("SELECT name FROM customers WHERE id = $1", customer) for customer in some]


async def test_rows_are_found_where_they_were_written():
    connection = await connect()
    ports = await customers(connection, 0)
    apart(ports)
    for _ in range(3):
        same(await names(connection, ports), ["asyncpg"] * len(ports))
    row = await connection.fetchrow("SELECT id, total, created_at FROM orders WHERE customer_id = $1", 7)
    assert row["id"] in (71, 72, 73, 74) and row["created_at"].year == 2026, row
    await connection.close()


async def test_a_list_of_keys_reaches_every_shard():
    connection = await connect()
    ports = await customers(connection, 50)
    rows = await connection.fetch("SELECT id FROM customers WHERE id = ANY($1::bigint[])", list(ports))
    same(sorted(row["id"] for row in rows), sorted(ports))
    await connection.close()


async def test_a_transaction_commits_and_rolls_back():
    connection = await connect()
    a, b, _ = apart(await customers(connection, 100))
    async with connection.transaction():
        await connection.execute(UPDATE, "x", a)
        async with connection.transaction():
            await connection.execute(UPDATE, "y", b)
    same(await names(connection, (a, b)), ["x", "y"])
    try:
        async with connection.transaction():
            await connection.execute(UPDATE, "z", a)
            await connection.fetch("SELECT 1/0")
    except asyncpg.DivisionByZeroError:
        pass
    same(await names(connection, (a, b)), ["x", "y"])
    await connection.close()


async def test_a_second_writing_shard_takes_part():
    connection = await connect()
    a, _, c = apart(await customers(connection, 200))

    async def act(last):
        async with connection.transaction():
            await connection.execute(UPDATE, "both", a)
            await connection.execute(UPDATE, "both", c)
            await connection.fetch(last)

    try:
        await act("SELECT 1/0")
        raise AssertionError("it succeeds")
    except asyncpg.DivisionByZeroError:
        pass
    same(await names(connection, (a, c)), ["asyncpg", "asyncpg"])
    await act("SELECT 1")
    same(await names(connection, (a, c)), ["both", "both"])
    await connection.close()


async def test_executemany_in_one_shard_and_across():
    connection = await connect()
    a, b, c = apart(await customers(connection, 300))
    await connection.executemany(UPDATE, [("m1", a), ("m2", b)] * 50)
    same(await names(connection, (a, b)), ["m1", "m2"])
    try:
        await connection.executemany(UPDATE, [("lost", a), ("lost", b), ("lost", c), (None, c)])
        raise AssertionError("it succeeds")
    except asyncpg.NotNullViolationError:
        pass
    same(await names(connection, (a, b, c)), ["m1", "m2", "asyncpg"])
    await connection.executemany(UPDATE, [("m3", a), ("m3", b), ("m3", c)])
    same(await names(connection, (a, b, c)), ["m3", "m3", "m3"])
    await connection.close()


async def test_several_statements_in_one_query():
    connection = await connect()
    a, b, c = apart(await customers(connection, 400))
    update = "UPDATE customers SET name = '{}' WHERE id = {}"
    await connection.execute("; ".join((update.format("s1", a), update.format("s2", b))))
    same(await names(connection, (a, b)), ["s1", "s2"])
    await connection.execute("; ".join((update.format("s3", a), update.format("s3", c))))
    same(await names(connection, (a, c)), ["s3", "s3"])
    await connection.close()


async def test_copy_out_and_in_on_one_shard():
    connection = await connect()
    rows = [("asyncpg_a", "1"), ("asyncpg_b", "2")]
    same(await connection.copy_records_to_table("settings", records=rows, columns=["name", "value"]), "COPY 2")
    out = io.BytesIO()
    await connection.copy_from_query("SELECT name FROM settings WHERE name LIKE 'asyncpg%' ORDER BY 1", output=out)
    same(out.getvalue(), b"asyncpg_a\nasyncpg_b\n")
    same(await connection.execute("DELETE FROM settings WHERE name LIKE 'asyncpg%'"), "DELETE 2")
    await connection.close()


async def test_a_cursor_fetches_in_parts():
    connection = await connect()
    async with connection.transaction():
        query = "SELECT order_id, line FROM order_items WHERE customer_id = $1 ORDER BY 1, 2"
        rows = [tuple(row) async for row in connection.cursor(query, 7, prefetch=2)]
        same(len(rows), await connection.fetchval("SELECT count(*) FROM order_items WHERE customer_id = 7"))
        same(rows, sorted(rows))
    await connection.close()


async def test_a_timeout_cancels():
    connection = await connect()
    try:
        await connection.fetch("SELECT pg_sleep(50)", timeout=0.3)
        raise AssertionError("it slept on")
    except asyncio.TimeoutError:
        pass
    same(await connection.fetchval("SELECT 1"), 1)
    await connection.close()


async def test_listen_hears_what_another_session_says():
    listener, speaker = await connect(), await connect()
    heard = asyncio.get_running_loop().create_future()
    await listener.add_listener("asyncpg_channel", lambda *said: heard.done() or heard.set_result(said[2:]))
    await speaker.execute("SELECT pg_notify('asyncpg_channel', 'hello')")
    same(await asyncio.wait_for(heard, 30), ("asyncpg_channel", "hello"))
    await listener.close()
    await speaker.close()


async def test_a_pool_hands_connections_on_clean():
    async with asyncpg.create_pool(
        host="127.0.0.1", port=PORT, user="demo", database="shop", min_size=1, max_size=1
    ) as pool:
        async with pool.acquire() as connection:
            await connection.execute("SET work_mem = '7MB'")
        async with pool.acquire() as connection:
            assert await connection.fetchval("SHOW work_mem") != "7MB"


async def test_errors_are_the_servers_own():
    connection = await connect()
    for sql, state in [("SELECT * FROM no_such_table", "42P01"), ("SELEC 1", "42601"), ("SELECT 1/0", "22012")]:
        try:
            await connection.fetch(sql)
            raise AssertionError(f"{sql} succeeds")
        except asyncpg.PostgresError as error:
            same(error.sqlstate, state)
    a = next(iter(await customers(connection, 500)))
    try:
        await connection.execute(INSERT, a, "twice")
        raise AssertionError("a second row with one key")
    except asyncpg.UniqueViolationError as error:
        same(error.constraint_name, "customers_pkey")
    await connection.close()


run("asyncpg", sys.modules[__name__])
