// node-postgres: simple and extended queries, named statements, pools, cursors, COPY streams, LISTEN, cancel.
'use strict';
const assert = require('node:assert/strict');
const { pipeline } = require('node:stream/promises');
const { Readable } = require('node:stream');
const { Client, Pool } = require('pg');
const Cursor = require('pg-cursor');
const { from, to } = require('pg-copy-streams');

const [port, base] = process.argv.slice(2).map(Number);
const login = { host: '127.0.0.1', port, user: 'demo', database: 'shop' };
const insert = "INSERT INTO customers (id, name, email, country) VALUES ($1, $2, 'n@example.com', 'NL')";
const update = 'UPDATE customers SET name = $1 WHERE id = $2';

async function connected(act) {
  const client = new Client(login);
  await client.connect();
  try {
    return await act(client);
  } finally {
    await client.end();
  }
}

async function customers(client, first, count = 8) {
  const ports = new Map();
  for (let customer = base + first; customer < base + first + count; customer += 1) {
    const { rows } = await client.query(`${insert} RETURNING inet_server_port() AS port`, [customer, 'node']);
    ports.set(customer, rows[0].port);
  }
  return ports;
}

// Two customers on one shard and a third on another.
function apart(ports) {
  for (const [a, at] of ports) {
    for (const [b, bt] of ports) {
      for (const [c, ct] of ports) if (a < b && at === bt && ct !== at) return [a, b, c];
    }
  }
  throw new Error('all customers are on one server');
}

async function names(client, some) {
  const found = [];
  for (const customer of some) {
    const { rows } = await client.query('SELECT name FROM customers WHERE id = $1', [customer]);
    found.push(rows[0].name);
  }
  return found;
}

const failsWith = (promise, code) => assert.rejects(promise, (error) => { assert.equal(error.code, code); return true; });

const tests = {
  'rows are found where they were written': () => connected(async (client) => {
    const ports = await customers(client, 0);
    apart(ports);
    assert.deepEqual(await names(client, ports.keys()), Array(8).fill('node'));
  }),
  'a named statement reaches every shard': () => connected(async (client) => {
    const ports = await customers(client, 100);
    for (let round = 0; round < 3; round += 1) {
      for (const customer of ports.keys()) {
        const query = { name: 'by-id', text: 'SELECT id FROM customers WHERE id = $1', values: [customer] };
        assert.equal((await client.query(query)).rows[0].id, String(customer));
      }
    }
  }),
  'a transaction commits and rolls back': () => connected(async (client) => {
    const [a, b] = apart(await customers(client, 200));
    await client.query('BEGIN');
    await client.query(update, ['x', a]);
    await client.query(update, ['y', b]);
    await client.query('COMMIT');
    assert.deepEqual(await names(client, [a, b]), ['x', 'y']);
    await client.query('BEGIN');
    await client.query(update, ['z', a]);
    await client.query('ROLLBACK');
    assert.deepEqual(await names(client, [a, b]), ['x', 'y']);
  }),
  'a second writing shard takes part': () => connected(async (client) => {
    const [a, , c] = apart(await customers(client, 300));
    await client.query('BEGIN');
    await client.query(update, ['lost', a]);
    await client.query(update, ['lost', c]);
    await failsWith(client.query('SELECT 1/0'), '22012');
    await failsWith(client.query('SELECT 1'), '25P02');
    assert.equal((await client.query('COMMIT')).command, 'ROLLBACK');
    assert.deepEqual(await names(client, [a, c]), ['node', 'node']);
    await client.query('BEGIN');
    await client.query(update, ['both', a]);
    await client.query(update, ['both', c]);
    assert.equal((await client.query('COMMIT')).command, 'COMMIT');
    assert.deepEqual(await names(client, [a, c]), ['both', 'both']);
  }),
  'several statements in one query': () => connected(async (client) => {
    const [a, b, c] = apart(await customers(client, 400));
    const set = (name, id) => `UPDATE customers SET name = '${name}' WHERE id = ${id}`;
    const results = await client.query(`${set('s1', a)}; ${set('s2', b)}; SELECT 1`);
    assert.deepEqual(results.map((result) => result.command), ['UPDATE', 'UPDATE', 'SELECT']);
    await failsWith(client.query(`${set('lost', a)}; ${set('lost', c)}; SELECT 1/0`), '22012');
    assert.deepEqual(await names(client, [a, b, c]), ['s1', 's2', 'node']);
    await client.query(`${set('s3', a)}; ${set('s3', c)}`);
    assert.deepEqual(await names(client, [a, b, c]), ['s3', 's2', 's3']);
  }),
  'copy out and in on one shard': () => connected(async (client) => {
    const sink = client.query(from('COPY settings (name, value) FROM STDIN'));
    await pipeline(Readable.from(['node_a\t1\n', 'node_b\t2\n']), sink);
    const source = client.query(to("COPY (SELECT name FROM settings WHERE name LIKE 'node%' ORDER BY 1) TO STDOUT"));
    const chunks = [];
    for await (const chunk of source) chunks.push(chunk);
    assert.equal(Buffer.concat(chunks).toString(), 'node_a\nnode_b\n');
    assert.equal((await client.query("DELETE FROM settings WHERE name LIKE 'node%'")).rowCount, 2);
  }),
  'a cursor fetches in parts': () => connected(async (client) => {
    const text = 'SELECT order_id, line FROM order_items WHERE customer_id = $1 ORDER BY 1, 2';
    const wanted = (await client.query(text, [7])).rows;
    const cursor = client.query(new Cursor(text, [7]));
    const rows = [];
    for (;;) {
      const part = await cursor.read(2);
      if (part.length === 0) break;
      assert.ok(part.length <= 2);
      rows.push(...part);
    }
    await cursor.close();
    assert.deepEqual(rows, wanted);
    assert.ok(rows.length > 2);
  }),
  'a pool serves many at once': async () => {
    const pool = new Pool({ ...login, max: 10 });
    const answers = await Promise.all(Array.from({ length: 200 }, (_, index) =>
      pool.query('SELECT id FROM customers WHERE id = $1', [index + 1])));
    assert.deepEqual(answers.map(({ rows }) => Number(rows[0].id)), Array.from({ length: 200 }, (_, index) => index + 1));
    await pool.end();
  },
  'cancel': () => connected(async (client) => {
    const outcome = failsWith(client.query('SELECT pg_sleep(50)'), '57014');
    let ended = false;
    outcome.finally(() => { ended = true; }).catch(() => {});
    while (!ended) {
      // A cancel that comes before the statement does nothing, so it is repeated until it hits.
      const killer = new Client(login);
      killer.on('error', () => {});
      killer.cancel({ ...login, ...client, activeQuery: 1, processID: client.processID, secretKey: client.secretKey }, 1);
      await Promise.race([outcome, new Promise((resolve) => { setTimeout(resolve, 200); })]);
    }
    await outcome;
    assert.equal((await client.query('SELECT 1 AS one')).rows[0].one, 1);
  }),
  'listen hears what another session says': () => connected((listener) => connected(async (speaker) => {
    const heard = new Promise((resolve) => { listener.on('notification', resolve); });
    await listener.query('LISTEN node_channel');
    await speaker.query("NOTIFY node_channel, 'hello'");
    const { channel, payload } = await heard;
    assert.deepEqual([channel, payload], ['node_channel', 'hello']);
  })),
  "errors are the server's own": () => connected(async (client) => {
    await failsWith(client.query('SELECT * FROM no_such_table'), '42P01');
    await failsWith(client.query('SELEC 1'), '42601');
    await failsWith(client.query('SELECT $1::int / 0', [1]), '22012');
    const [a] = (await customers(client, 500)).keys();
    await failsWith(client.query(insert, [a, 'twice']), '23505');
  }),
};

async function main() {
  let failed = 0;
  for (const [name, test] of Object.entries(tests)) {
    let timer;
    const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error('60 s have passed')), 60000); });
    try {
      await Promise.race([test(), late]);
      console.log(`ok node: ${name}`);
    } catch (error) {
      failed += 1;
      console.log(`FAIL node: ${name}: ${JSON.stringify(`${error.code ?? ''} ${error.message}`.trim())}`);
    } finally {
      clearTimeout(timer);
    }
  }
  process.exit(failed ? 1 : 0);
}

main();
