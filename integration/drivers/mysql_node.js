// mysql2: text and prepared statements, pools, streams, several statements, transactions, types.
'use strict';
const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const callbacks = require('mysql2');
const mysql = require('mysql2/promise');

const [port, base] = process.argv.slice(2).map(Number);
const house = process.env.SHARDWAY_MYSQL_HOUSE;
const first = new Set(fs.readFileSync(path.join(house, 'first'), 'utf8').split('\n').map(Number));
const ca = fs.readFileSync(path.join(house, 'cert.pem'));
const login = { host: '127.0.0.1', port, user: 'demo', database: 'shop' };
const insert = "INSERT INTO customers (id, name, email, country) VALUES (?, ?, 'n@example.com', 'NL')";
const update = 'UPDATE customers SET name = ? WHERE id = ?';
const name = 'SELECT name FROM customers WHERE id = ?';

async function connected(act, options = {}) {
  const connection = await mysql.createConnection({ ...login, ...options });
  try {
    return await act(connection);
  } finally {
    await connection.end();
  }
}

// Two keys of one shard and a third of another.
function apart(begin) {
  const keys = Array.from({ length: 40 }, (_, index) => base + begin + index);
  const here = keys.filter((key) => first.has(key));
  return [here[0], here[1], keys.find((key) => !first.has(key))];
}

async function customers(connection, begin) {
  const found = apart(begin);
  for (const key of found) {
    const [done] = await connection.query(insert, [key, 'node']);
    assert.equal(done.affectedRows, 1);
  }
  return found;
}

async function names(connection, some, how = 'query') {
  const found = [];
  for (const key of some) {
    const [rows] = await connection[how](name, [key]);
    found.push(rows[0].name);
  }
  return found;
}

const failsWith = (promise, errno, sqlState) => assert.rejects(promise, (error) => {
  assert.deepEqual([error.errno, error.sqlState], [errno, sqlState], error.message);
  return true;
});

const tests = {
  'logins, with TLS and without': async () => {
    const app = { user: 'app', password: 'so secret' };
    const who = async (connection) => (await connection.query('SELECT DATABASE() AS d'))[0][0].d;
    assert.equal(await connected(who, app), 'shop');
    assert.equal(await connected(who, { ...app, ssl: { ca } }), 'shop');
    await failsWith(connected(who, { ...app, password: 'wrong' }), 1045, '28000');
    await failsWith(connected(who, { ...app, password: 'wrong', ssl: { ca } }), 1045, '28000');
  },
  'rows are found where they were written': () => connected(async (connection) => {
    const found = await customers(connection, 0);
    assert.deepEqual(await names(connection, found), Array(3).fill('node'));
    const [rows] = await connection.query('SELECT id FROM customers WHERE id IN (?)', [found]);
    assert.deepEqual(rows.map((row) => row.id).sort(), [...found].sort());
  }),
  'prepared statements': () => connected(async (connection) => {
    const found = apart(50);
    for (const key of found) {
      const [done] = await connection.execute(insert, [key, 'prepared']);
      assert.equal(done.affectedRows, 1);
    }
    for (let turn = 0; turn < 3; turn += 1) {
      assert.deepEqual(await names(connection, found, 'execute'), Array(3).fill('prepared'));
    }
    const statement = await connection.prepare('SELECT id, total, created_at FROM orders WHERE customer_id = ?');
    const [rows] = await statement.execute([7]);
    assert.equal(rows.length, 4);
    assert.equal(rows[0].created_at.getUTCFullYear(), 2026);
    await statement.close();
    const [[named]] = await connection.execute({ sql: 'SELECT name FROM customers WHERE id = :id', namedPlaceholders: true }, { id: 7 });
    assert.equal(named.name, 'Amber Paper 7');
  }),
  'transactions and savepoints on one shard': () => connected(async (connection) => {
    const [a, b] = await customers(connection, 100);
    await connection.beginTransaction();
    await connection.query(update, ['lost', a]);
    await connection.rollback();
    assert.deepEqual(await names(connection, [a, b]), ['node', 'node']);
    await connection.beginTransaction();
    await connection.execute(update, ['x', a]);
    await connection.query('SAVEPOINT one');
    await connection.execute(update, ['lost', b]);
    await connection.query('ROLLBACK TO SAVEPOINT one');
    await connection.commit();
    assert.deepEqual(await names(connection, [a, b]), ['x', 'node']);
  }),
  'several statements': () => connected(async (connection) => {
    const [a, , c] = await customers(connection, 150);
    const [results] = await connection.query(`${update}; ${name}; ${name}`, ['several', a, a, c]);
    assert.equal(results[0].affectedRows, 1);
    assert.deepEqual([results[1][0].name, results[2][0].name], ['several', 'node']);
    await failsWith(connection.query(`SELECT 1; ${insert}; ${update}`, [a, 'again', 'x', c]), 1062, '23000');
    assert.deepEqual(await names(connection, [c]), ['node']);
  }, { multipleStatements: true }),
  'pools give sessions as new': async () => {
    const pool = mysql.createPool({ ...login, connectionLimit: 4 });
    const found = await connected((connection) => customers(connection, 200));
    await Promise.all(Array.from({ length: 40 }, async (_, turn) => {
      const connection = await pool.getConnection();
      try {
        await connection.execute(update, [`turn ${turn}`, found[turn % 3]]);
        await names(connection, found, 'execute');
      } finally {
        connection.release();
      }
    }));
    assert.equal((await pool.query('SELECT 1 AS one'))[0][0].one, 1);
    await pool.end();
  },
  'streams': () => new Promise((resolve, reject) => {
    const connection = callbacks.createConnection(login);
    let rows = 0;
    connection.query('SELECT id, name FROM customers WHERE id <= 1000').stream({ highWaterMark: 5 })
      .on('data', () => { rows += 1; }).on('error', reject).on('end', () => {
        connection.end();
        try { assert.equal(rows, 1000); resolve(); } catch (error) { reject(error); }
      });
  }),
  'all types and NULLs, text and prepared': () => connected(async (connection) => {
    const values = {
      tiny: -128, normal: 2147483647, big: '18446744073709551615', twice: -1.25e300, exact: '-12345678901234.567890',
      words: 'Grüße, 世界, 🌍, it\'s "quoted" \\ ?', letters: 'ö'.repeat(1000), bytes: Buffer.from(Array.from({ length: 256 }, (_, it) => it)),
      day: '2024-02-29', clock: '-25:01:00.125', moment: '2020-01-02 03:04:05.678901', choice: 'b', doc: '{"k": [1, null]}', flag: 1,
    };
    const columns = Object.keys(values);
    const write = `INSERT INTO typed (id, ${columns.join(', ')}) VALUES (?${', ?'.repeat(columns.length)})`;
    const read = `SELECT ${columns.join(', ')} FROM typed WHERE id = ?`;
    const [a, b, c] = apart(250);
    for (const [key, how] of [[a, 'query'], [c, 'execute']]) {
      await connection[how](write, [key, ...Object.values(values)]);
      for (const reading of ['query', 'execute']) {
        const [[row]] = await connection[reading](read, [key]);
        // MariaDB's JSON is text; the driver may have read it.
        if (typeof row.doc !== 'string') row.doc = JSON.stringify(row.doc).replace(':', ': ').replace(',', ', ');
        assert.deepEqual({ ...row }, values);
      }
    }
    await connection.execute(write, [b, ...columns.map(() => null)]);
    const [[row]] = await connection.execute(read, [b]);
    assert.deepEqual(Object.values(row), columns.map(() => null));
  }, { supportBigNumbers: true, bigNumberStrings: true, dateStrings: true }),
  'large values': () => connected(async (connection) => {
    const [a, , c] = apart(300);
    const value = Buffer.alloc(3_000_000, 'shard');
    await connection.query('INSERT INTO typed (id, bytes) VALUES (?, ?)', [a, value]);
    await connection.execute('INSERT INTO typed (id, bytes) VALUES (?, ?)', [c, value]);
    for (const key of [a, c]) {
      const [[row]] = await connection.execute('SELECT bytes FROM typed WHERE id = ?', [key]);
      assert.ok(row.bytes.equals(value));
    }
  }),
  'ping, and errors that are the server\'s own': () => connected(async (connection) => {
    await connection.ping();
    const [a] = await customers(connection, 350);
    await failsWith(connection.execute(insert, [a, 'twice']), 1062, '23000');
    await failsWith(connection.query('SELEC 1'), 1064, '42000');
    await failsWith(connection.query('SELECT nothing FROM customers WHERE id = 7'), 1054, '42S22');
    await failsWith(connection.query('SELECT * FROM no_such_table'), 1146, '42S02');
    await failsWith(connection.execute('SELECT * FROM no_such_table'), 1146, '42S02');
    assert.deepEqual(await names(connection, [a]), ['node']);
  }),
};

async function main() {
  let failed = 0;
  for (const [title, test] of Object.entries(tests)) {
    try {
      let timer;
      const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error('takes too long')), 60_000); });
      await Promise.race([test(), late]).finally(() => clearTimeout(timer));
      console.log(`ok mysql2: ${title}`);
    } catch (error) {
      failed += 1;
      console.log(`FAIL mysql2: ${title}: ${String(error.stack).replaceAll('\n', ' ').slice(0, 600)}`);
    }
  }
  process.exit(failed ? 1 : 0);
}

main();
