// MariaDB's JDBC driver: text and server-side prepared statements, transactions and batches over shards, fetch size, metadata,
// savepoints, keys that servers give, timeouts, types.

import java.math.BigDecimal;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.Date;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Timestamp;
import java.sql.Types;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Properties;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

public final class Mariadb {
    private static final String INSERT =
            "INSERT INTO customers (id, name, email, country) VALUES (?, ?, 'j@example.com', 'NL')";
    private static final String UPDATE = "UPDATE customers SET name = ? WHERE id = ?";
    private static final String NAME = "SELECT name FROM customers WHERE id = ?";
    private static int port;
    private static long base;
    private static Path house;
    private static final Set<Long> first = new HashSet<>();
    private static int failed;
    private static String mode;

    private interface Test {
        void run(Connection connection) throws Exception;
    }

    private interface Act {
        void run() throws Exception;
    }

    public static void main(String[] arguments) throws Exception {
        port = Integer.parseInt(arguments[0]);
        base = Long.parseLong(arguments[1]);
        house = Path.of(System.getenv("SHARDWAY_MYSQL_HOUSE"));
        for (String line : Files.readAllLines(house.resolve("first"))) {
            first.add(Long.parseLong(line));
        }
        for (String prepared : List.of("false", "true")) {
            mode = prepared;
            test("rows are found where they were written", Mariadb::rowsAreFound);
            test("a transaction commits and rolls back", Mariadb::transaction);
            test("transactions over shards", Mariadb::transactionOverShards);
            test("savepoints", Mariadb::savepoints);
            test("executeBatch", Mariadb::batch);
            test("reads of several shards", Mariadb::readsOfSeveral);
            test("keys that the server gives", Mariadb::generatedKeys);
            test("a statement is cancelled, and one takes too long", Mariadb::cancelled);
            test("all types and NULLs", Mariadb::types);
            test("large values", Mariadb::large);
            test("errors are the server's own", Mariadb::errors);
            // The list has the first few thousand of each million.
            base += 1_000;
        }
        mode = "false";
        test("logins with a password, with TLS and without", Mariadb::logins);
        test("several statements", Mariadb::severalStatements);
        test("fetch size", Mariadb::fetchSize);
        test("batches of many rows in one INSERT over shards", Mariadb::rewrittenBatch);
        test("metadata", Mariadb::metadata);
        test("isValid and the session's settings", Mariadb::settings);
        System.exit(failed > 0 ? 1 : 0);
    }

    private static void test(String name, Test test) {
        CompletableFuture<Void> outcome = CompletableFuture.runAsync(() -> {
            try (Connection connection = connect("useServerPrepStmts", mode)) {
                test.run(connection);
            } catch (Exception | AssertionError error) {
                throw new RuntimeException(error);
            }
        });
        String title = "mariadb_jdbc: " + name + (mode.equals("true") ? ", prepared" : "");
        try {
            outcome.get(60, TimeUnit.SECONDS);
            System.out.println("ok " + title);
        } catch (Exception error) {
            failed += 1;
            Throwable cause = error;
            while (cause.getCause() != null) {
                cause = cause.getCause();
            }
            int line = 0;
            for (StackTraceElement frame : cause.getStackTrace()) {
                if (frame.getClassName().startsWith("Mariadb") && !frame.getMethodName().startsWith("same")) {
                    line = frame.getLineNumber();
                    break;
                }
            }
            System.out.println("FAIL " + title + ": line " + line + ": " + cause.toString().replace('\n', ' '));
        }
    }

    private static Connection connect(String... options) throws SQLException {
        Properties properties = new Properties();
        properties.setProperty("user", "demo");
        for (int index = 0; index < options.length; index += 2) {
            properties.setProperty(options[index], options[index + 1]);
        }
        return DriverManager.getConnection("jdbc:mariadb://127.0.0.1:" + port + "/shop", properties);
    }

    private static void same(Object got, Object wanted) {
        if (!String.valueOf(got).equals(String.valueOf(wanted))) {
            throw new AssertionError("got " + got + ", wanted " + wanted);
        }
    }

    private static void failsWith(int number, String state, Act act) throws Exception {
        try {
            act.run();
        } catch (SQLException error) {
            same(error.getErrorCode() + " " + error.getSQLState(), number + " " + state);
            return;
        }
        throw new AssertionError("it succeeds, wanted " + number);
    }

    /** Two keys of one shard and a third of another. */
    private static long[] apart(int begin) {
        List<Long> here = new ArrayList<>();
        List<Long> there = new ArrayList<>();
        for (long key = base + begin; key < base + begin + 40; key++) {
            (first.contains(key) ? here : there).add(key);
        }
        return new long[] {here.get(0), here.get(1), there.get(0)};
    }

    private static long[] customers(Connection connection, int begin) throws SQLException {
        long[] found = apart(begin);
        try (PreparedStatement insert = connection.prepareStatement(INSERT)) {
            for (long key : found) {
                insert.setLong(1, key);
                insert.setString(2, "jdbc");
                same(insert.executeUpdate(), 1);
            }
        }
        return found;
    }

    private static List<String> names(Connection connection, long... some) throws SQLException {
        List<String> found = new ArrayList<>();
        try (PreparedStatement select = connection.prepareStatement(NAME)) {
            for (long key : some) {
                select.setLong(1, key);
                try (ResultSet row = select.executeQuery()) {
                    row.next();
                    found.add(row.getString(1));
                }
            }
        }
        return found;
    }

    private static void update(Connection connection, String name, long key) throws SQLException {
        try (PreparedStatement update = connection.prepareStatement(UPDATE)) {
            update.setString(1, name);
            update.setLong(2, key);
            same(update.executeUpdate(), 1);
        }
    }

    private static void logins(Connection ignored) throws Exception {
        String[] app = {"user", "app", "password", "so secret"};
        try (Connection connection = connect(app)) {
            same(names(connection, 7), "[Amber Paper 7]");
        }
        try (Connection connection = connect("user", "app", "password", "so secret", "useSsl", "true",
                "serverSslCert", house.resolve("cert.pem").toString())) {
            same(names(connection, 7), "[Amber Paper 7]");
        }
        failsWith(1045, "28000", () -> connect("user", "app", "password", "wrong").close());
    }

    private static void rowsAreFound(Connection connection) throws Exception {
        long[] found = customers(connection, 0);
        for (int turn = 0; turn < 3; turn++) {
            same(names(connection, found), "[jdbc, jdbc, jdbc]");
        }
        Set<Long> rows = new TreeSet<>();
        try (PreparedStatement select = connection.prepareStatement("SELECT id FROM customers WHERE id IN (?, ?, ?)")) {
            for (int index = 0; index < 3; index++) {
                select.setLong(index + 1, found[index]);
            }
            try (ResultSet row = select.executeQuery()) {
                while (row.next()) {
                    rows.add(row.getLong("id"));
                }
            }
        }
        same(rows, new TreeSet<>(List.of(found[0], found[1], found[2])));
    }

    private static void transaction(Connection connection) throws Exception {
        long[] found = customers(connection, 50);
        connection.setAutoCommit(false);
        update(connection, "lost", found[0]);
        update(connection, "lost", found[1]);
        connection.rollback();
        same(names(connection, found), "[jdbc, jdbc, jdbc]");
        connection.commit();
        update(connection, "x", found[0]);
        update(connection, "y", found[1]);
        connection.commit();
        connection.setAutoCommit(true);
        same(names(connection, found), "[x, y, jdbc]");
    }

    private static void transactionOverShards(Connection connection) throws Exception {
        long[] found = customers(connection, 350);
        connection.setAutoCommit(false);
        for (long key : found) {
            update(connection, "lost", key);
        }
        same(names(connection, found), "[lost, lost, lost]");
        try (Connection other = connect()) {
            same(names(other, found), "[jdbc, jdbc, jdbc]");
        }
        connection.rollback();
        same(names(connection, found), "[jdbc, jdbc, jdbc]");
        update(connection, "kept", found[0]);
        Savepoint one = connection.setSavepoint();
        update(connection, "lost", found[2]);
        connection.rollback(one);
        update(connection, "kept, too", found[2]);
        connection.commit();
        connection.setAutoCommit(true);
        try (Connection other = connect()) {
            same(names(other, found), "[kept, jdbc, kept, too]");
        }
        // A row twice undoes what the statement did on both shards, and nothing else.
        connection.setAutoCommit(false);
        update(connection, "before", found[1]);
        failsWith(1062, "23000", () -> {
            try (Statement statement = connection.createStatement()) {
                statement.executeUpdate("INSERT INTO customers (id, name, email, country) VALUES (" + (found[0] + 5000) + ", 'x', '', 'NL'), ("
                        + found[2] + ", 'x', '', 'NL')");
            }
        });
        connection.commit();
        connection.setAutoCommit(true);
        same(names(connection, found), "[kept, before, kept, too]");
    }

    /** What is put together of several shards. */
    private static void readsOfSeveral(Connection connection) throws Exception {
        try (PreparedStatement select = connection.prepareStatement(
                "SELECT COUNT(*) AS orders, MAX(customer_id) AS last FROM orders WHERE customer_id BETWEEN ? AND ?")) {
            for (int turn = 0; turn < 2; turn++) {
                select.setLong(1, 1);
                select.setLong(2, 50);
                try (ResultSet row = select.executeQuery()) {
                    row.next();
                    same(row.getLong("orders") > 50, true);
                    same(row.getLong("last"), 50);
                }
            }
        }
        try (PreparedStatement select = connection.prepareStatement(
                "SELECT id, name FROM customers WHERE id <= ? ORDER BY id DESC LIMIT 3")) {
            select.setLong(1, 1000);
            List<Long> keys = new ArrayList<>();
            try (ResultSet row = select.executeQuery()) {
                while (row.next()) {
                    keys.add(row.getLong(1));
                }
            }
            same(keys, "[1000, 999, 998]");
        }
        long[] found = customers(connection, 400);
        try (PreparedStatement update = connection.prepareStatement("UPDATE customers SET name = ? WHERE id IN (?, ?, ?)")) {
            update.setString(1, "all");
            for (int index = 0; index < 3; index++) {
                update.setLong(index + 2, found[index]);
            }
            same(update.executeUpdate(), 3);
        }
        same(names(connection, found), "[all, all, all]");
    }

    private static void generatedKeys(Connection connection) throws Exception {
        String insert = "INSERT INTO notes (body) VALUES (?)";
        Set<Long> keys = new HashSet<>();
        try (PreparedStatement statement = connection.prepareStatement(insert, Statement.RETURN_GENERATED_KEYS)) {
            for (int turn = 0; turn < 3; turn++) {
                statement.setString(1, "jdbc " + base + " " + turn);
                same(statement.executeUpdate(), 1);
                try (ResultSet row = statement.getGeneratedKeys()) {
                    row.next();
                    keys.add(row.getLong(1));
                }
            }
            for (int turn = 3; turn < 6; turn++) {
                statement.setString(1, "jdbc " + base + " " + turn);
                statement.addBatch();
            }
            statement.executeBatch();
            try (ResultSet row = statement.getGeneratedKeys()) {
                while (row.next()) {
                    keys.add(row.getLong(1));
                }
            }
        }
        same(keys.size(), 6);
        Set<Long> found = new HashSet<>();
        try (PreparedStatement select = connection.prepareStatement("SELECT id FROM notes WHERE body LIKE ?")) {
            select.setString(1, "jdbc " + base + " %");
            try (ResultSet row = select.executeQuery()) {
                while (row.next()) {
                    found.add(row.getLong(1));
                }
            }
        }
        same(new TreeSet<>(found), new TreeSet<>(keys));
    }

    private static void cancelled(Connection connection) throws Exception {
        long[] found = customers(connection, 450);
        for (String where : List.of("id = " + found[0], "id IN (" + found[0] + ", " + found[2] + ")")) {
            try (Statement statement = connection.createStatement()) {
                Thread stops = new Thread(() -> {
                    try {
                        // Until it runs there is nothing to stop, and stopping nothing does nothing.
                        while (!statement.isClosed()) {
                            Thread.sleep(100);
                            statement.cancel();
                        }
                    } catch (SQLException | InterruptedException error) {
                        // It was closed in between.
                    }
                });
                stops.start();
                failsWith(1317, "70100", () -> statement.executeQuery("SELECT name, SLEEP(30) FROM customers WHERE " + where));
                statement.close();
                stops.join();
            }
        }
        same(names(connection, found), "[jdbc, jdbc, jdbc]");
        try (Statement statement = connection.createStatement()) {
            statement.setQueryTimeout(1);
            try {
                statement.executeQuery("SELECT name, SLEEP(30) FROM customers WHERE id = " + found[0]);
                throw new AssertionError("it succeeds");
            } catch (SQLException error) {
                same(error.getErrorCode(), 1969);
            }
        }
        same(names(connection, found), "[jdbc, jdbc, jdbc]");
    }

    private static void savepoints(Connection connection) throws Exception {
        long[] found = customers(connection, 100);
        connection.setAutoCommit(false);
        update(connection, "kept", found[0]);
        Savepoint one = connection.setSavepoint("one");
        update(connection, "lost", found[1]);
        connection.rollback(one);
        connection.commit();
        connection.setAutoCommit(true);
        same(names(connection, found), "[kept, jdbc, jdbc]");
    }

    private static void batch(Connection connection) throws Exception {
        long[] found = customers(connection, 150);
        try (PreparedStatement update = connection.prepareStatement(UPDATE)) {
            for (int turn = 0; turn < 30; turn++) {
                update.setString(1, "n" + turn);
                update.setLong(2, found[turn % 3]);
                update.addBatch();
            }
            same(Arrays.stream(update.executeBatch()).sum(), 30);
        }
        same(names(connection, found), "[n27, n28, n29]");
        // Text, several statements one by one.
        try (Statement statement = connection.createStatement()) {
            for (long key : found) {
                statement.addBatch("UPDATE customers SET name = 'text' WHERE id = " + key);
            }
            same(Arrays.toString(statement.executeBatch()), "[1, 1, 1]");
        }
        same(names(connection, found), "[text, text, text]");
    }

    private static void rewrittenBatch(Connection ignored) throws Exception {
        List<Long> here = new ArrayList<>();
        for (long key = base + 500; here.size() < 40; key++) {
            here.add(key);
        }
        try (Connection connection = connect("rewriteBatchedStatements", "true");
                PreparedStatement insert = connection.prepareStatement(INSERT)) {
            for (long key : here) {
                insert.setLong(1, key);
                insert.setString(2, "rewritten");
                insert.addBatch();
            }
            same(insert.executeBatch().length, 40);
            same(String.join(" ", new TreeSet<>(names(connection, here.stream().mapToLong(Long::longValue).toArray()))), "rewritten");
        }
    }

    private static void severalStatements(Connection ignored) throws Exception {
        try (Connection connection = connect("allowMultiQueries", "true"); Statement statement = connection.createStatement()) {
            long[] found = customers(connection, 700);
            statement.execute("UPDATE customers SET name = 'several' WHERE id = " + found[0]
                    + "; SELECT name FROM customers WHERE id = " + found[0] + "; SELECT name FROM customers WHERE id = " + found[2]);
            same(statement.getUpdateCount(), 1);
            StringBuilder text = new StringBuilder();
            while (statement.getMoreResults()) {
                ResultSet row = statement.getResultSet();
                row.next();
                text.append(row.getString(1)).append(' ');
            }
            same(text, "several jdbc ");
        }
    }

    private static void fetchSize(Connection connection) throws Exception {
        try (Statement statement = connection.createStatement()) {
            statement.setFetchSize(10);
            int rows = 0;
            try (ResultSet row = statement.executeQuery("SELECT id, name FROM customers WHERE id <= 1000")) {
                while (row.next()) {
                    rows += 1;
                }
            }
            same(rows, 1000);
            // A stream that is left alone half read.
            statement.executeQuery("SELECT id, name FROM customers WHERE id <= 1000").next();
        }
        same(names(connection, 7), "[Amber Paper 7]");
    }

    private static void types(Connection connection) throws Exception {
        long[] found = apart(200);
        byte[] bytes = new byte[256];
        for (int index = 0; index < 256; index++) {
            bytes[index] = (byte) index;
        }
        String words = "Grüße, 世界, 🌍, it's \"quoted\" \\ ?";
        Timestamp moment = Timestamp.valueOf("2020-01-02 03:04:05.678901");
        for (long key : new long[] {found[0], found[2]}) {
            try (PreparedStatement insert = connection.prepareStatement("INSERT INTO typed (id, tiny, normal, big, twice, exact, words, "
                    + "bytes, day, moment, choice, flag, letters) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")) {
                insert.setLong(1, key);
                insert.setByte(2, (byte) -128);
                insert.setInt(3, Integer.MIN_VALUE);
                insert.setBigDecimal(4, new BigDecimal("18446744073709551615"));
                insert.setDouble(5, -1.25e300);
                insert.setBigDecimal(6, new BigDecimal("-12345678901234.567890"));
                insert.setString(7, words);
                insert.setBytes(8, bytes);
                insert.setDate(9, Date.valueOf("2024-02-29"));
                insert.setTimestamp(10, moment);
                insert.setString(11, "b");
                insert.setBoolean(12, true);
                insert.setNull(13, Types.VARCHAR);
                same(insert.executeUpdate(), 1);
            }
            try (PreparedStatement select = connection.prepareStatement("SELECT * FROM typed WHERE id = ?")) {
                select.setLong(1, key);
                try (ResultSet row = select.executeQuery()) {
                    row.next();
                    same(row.getByte("tiny"), -128);
                    same(row.getInt("normal"), Integer.MIN_VALUE);
                    same(row.getBigDecimal("big"), "18446744073709551615");
                    same(row.getDouble("twice"), -1.25e300);
                    same(row.getBigDecimal("exact"), "-12345678901234.567890");
                    same(row.getString("words"), words);
                    same(Arrays.equals(row.getBytes("bytes"), bytes), true);
                    same(row.getDate("day"), "2024-02-29");
                    same(row.getTimestamp("moment"), moment);
                    same(row.getString("choice"), "b");
                    same(row.getBoolean("flag"), true);
                    same(row.getString("letters"), null);
                    same(row.wasNull(), true);
                }
            }
        }
    }

    private static void large(Connection connection) throws Exception {
        long[] found = apart(250);
        byte[] value = new byte[2_000_000];
        for (int index = 0; index < value.length; index++) {
            value[index] = (byte) (index * 7);
        }
        for (long key : new long[] {found[0], found[2]}) {
            try (PreparedStatement insert = connection.prepareStatement("INSERT INTO typed (id, bytes) VALUES (?, ?)")) {
                insert.setLong(1, key);
                insert.setBinaryStream(2, new java.io.ByteArrayInputStream(value));
                same(insert.executeUpdate(), 1);
            }
            try (PreparedStatement select = connection.prepareStatement("SELECT bytes FROM typed WHERE id = ?")) {
                select.setLong(1, key);
                try (ResultSet row = select.executeQuery()) {
                    row.next();
                    same(Arrays.equals(row.getBytes(1), value), true);
                }
            }
        }
    }

    private static void metadata(Connection connection) throws Exception {
        try (PreparedStatement select = connection.prepareStatement("SELECT id, total AS sum FROM orders WHERE customer_id = 7");
                ResultSet rows = select.executeQuery()) {
            ResultSetMetaData about = rows.getMetaData();
            same(about.getColumnCount() + about.getColumnName(1) + about.getColumnLabel(2) + about.getTableName(1), "2idsumorders");
        }
        DatabaseMetaData about = connection.getMetaData();
        same(about.getDatabaseProductName(), "MariaDB");
        List<String> columns = new ArrayList<>();
        try (ResultSet row = about.getColumns("shop", null, "customers", null)) {
            while (row.next()) {
                columns.add(row.getString("COLUMN_NAME"));
            }
        }
        same(columns, "[id, name, email, country, created_at]");
        try (ResultSet row = about.getPrimaryKeys("shop", null, "customers")) {
            row.next();
            same(row.getString("COLUMN_NAME"), "id");
        }
        Set<String> tables = new TreeSet<>();
        try (ResultSet row = about.getTables("shop", null, "o%", new String[] {"TABLE"})) {
            while (row.next()) {
                tables.add(row.getString("TABLE_NAME"));
            }
        }
        same(tables, "[order_items, orders]");
    }

    private static void settings(Connection connection) throws Exception {
        same(connection.isValid(5), true);
        same(connection.getCatalog(), "shop");
        connection.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
        same(connection.getTransactionIsolation(), Connection.TRANSACTION_READ_COMMITTED);
        connection.setReadOnly(false);
        same(names(connection, 7), "[Amber Paper 7]");
        same(connection.getWarnings(), null);
    }

    private static void errors(Connection connection) throws Exception {
        long[] found = customers(connection, 300);
        failsWith(1062, "23000", () -> {
            try (PreparedStatement insert = connection.prepareStatement(INSERT)) {
                insert.setLong(1, found[2]);
                insert.setString(2, "twice");
                insert.executeUpdate();
            }
        });
        try (Statement statement = connection.createStatement()) {
            failsWith(1064, "42000", () -> statement.execute("SELEC 1"));
            failsWith(1054, "42S22", () -> statement.execute("SELECT nothing FROM customers WHERE id = 7"));
            failsWith(1146, "42S02", () -> statement.execute("SELECT * FROM no_such_table"));
        }
        same(names(connection, found), "[jdbc, jdbc, jdbc]");
    }
}
