// The JDBC driver: server-side prepared statements, executeBatch, fetch size, COPY, metadata, cancel, LISTEN.

import java.io.ByteArrayOutputStream;
import java.io.StringReader;
import java.sql.BatchUpdateException;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;

public final class Jdbc {
    private static final String INSERT =
            "INSERT INTO customers (id, name, email, country) VALUES (?, ?, 'j@example.com', 'NL')";
    private static final String UPDATE = "UPDATE customers SET name = ? WHERE id = ?";
    private static int port;
    private static long base;
    private static int failed;

    private interface Test {
        void run(Connection connection) throws Exception;
    }

    private interface Act {
        void run() throws Exception;
    }

    public static void main(String[] arguments) {
        port = Integer.parseInt(arguments[0]);
        base = Long.parseLong(arguments[1]);
        test("rows are found where they were written", Jdbc::rowsAreFound);
        test("a transaction commits and rolls back", Jdbc::transaction);
        test("a second writing shard takes part", Jdbc::secondShard);
        test("executeBatch in one shard", Jdbc::batchInOneShard);
        test("executeBatch across shards is all or nothing", Jdbc::batchAcrossShards);
        test("executeBatch with rewritten inserts", Jdbc::rewrittenBatch);
        test("several statements in one query", Jdbc::severalStatements);
        test("fetch size", Jdbc::fetchSize);
        test("copy out and in on one shard", Jdbc::copy);
        test("metadata", Jdbc::metadata);
        test("savepoints", Jdbc::savepoints);
        test("cancel", Jdbc::cancel);
        test("query timeout", Jdbc::queryTimeout);
        test("listen hears what another session says", Jdbc::listen);
        test("errors are the server's own", Jdbc::errors);
        System.exit(failed > 0 ? 1 : 0);
    }

    private static void test(String name, Test test) {
        CompletableFuture<Void> outcome = CompletableFuture.runAsync(() -> {
            try (Connection connection = connect()) {
                test.run(connection);
            } catch (Exception | AssertionError error) {
                throw new RuntimeException(error);
            }
        });
        try {
            outcome.get(60, TimeUnit.SECONDS);
            System.out.println("ok jdbc: " + name);
        } catch (Exception error) {
            failed += 1;
            Throwable cause = error;
            while (cause.getCause() != null) {
                cause = cause.getCause();
            }
            int line = 0;
            for (StackTraceElement frame : cause.getStackTrace()) {
                if (frame.getClassName().startsWith("Jdbc") && !frame.getMethodName().startsWith("same")) {
                    line = frame.getLineNumber();
                    break;
                }
            }
            System.out.println("FAIL jdbc: " + name + ": line " + line + ": " + cause.toString().replace('\n', ' '));
        }
    }

    private static Connection connect(String... options) throws SQLException {
        Properties properties = new Properties();
        properties.setProperty("user", "demo");
        // From the second execution on, a statement is a named one on the server.
        properties.setProperty("prepareThreshold", "2");
        for (int index = 0; index < options.length; index += 2) {
            properties.setProperty(options[index], options[index + 1]);
        }
        return DriverManager.getConnection("jdbc:postgresql://127.0.0.1:" + port + "/shop", properties);
    }

    private static void same(Object got, Object wanted) {
        if (!String.valueOf(got).equals(String.valueOf(wanted))) {
            throw new AssertionError("got " + got + ", wanted " + wanted);
        }
    }

    private static void failsWith(String state, Act act) throws Exception {
        try {
            act.run();
        } catch (BatchUpdateException error) {
            SQLException first = error.getNextException() != null ? error.getNextException() : error;
            same(first.getSQLState(), state);
            return;
        } catch (SQLException error) {
            same(error.getSQLState(), state);
            return;
        }
        throw new AssertionError("it succeeds, wanted " + state);
    }

    private static Map<Long, Integer> customers(Connection connection, int first) throws SQLException {
        Map<Long, Integer> ports = new LinkedHashMap<>();
        try (PreparedStatement insert = connection.prepareStatement(INSERT + " RETURNING inet_server_port()")) {
            for (long customer = base + first; customer < base + first + 40; customer++) {
                insert.setLong(1, customer);
                insert.setString(2, "jdbc");
                try (ResultSet row = insert.executeQuery()) {
                    row.next();
                    ports.put(customer, row.getInt(1));
                }
            }
        }
        return ports;
    }

    /** Two customers on one shard and a third on another. */
    private static long[] apart(Map<Long, Integer> ports) {
        for (long a : ports.keySet()) {
            for (long b : ports.keySet()) {
                for (long c : ports.keySet()) {
                    if (a < b && ports.get(a).equals(ports.get(b)) && !ports.get(c).equals(ports.get(a))) {
                        return new long[] {a, b, c};
                    }
                }
            }
        }
        throw new AssertionError("all customers are on one server: " + ports);
    }

    private static List<String> names(Connection connection, long... customers) throws SQLException {
        List<String> names = new ArrayList<>();
        try (PreparedStatement select = connection.prepareStatement("SELECT name FROM customers WHERE id = ?")) {
            for (long customer : customers) {
                select.setLong(1, customer);
                try (ResultSet row = select.executeQuery()) {
                    row.next();
                    names.add(row.getString(1));
                }
            }
        }
        return names;
    }

    private static void rename(Connection connection, String name, long customer) throws SQLException {
        try (PreparedStatement update = connection.prepareStatement(UPDATE)) {
            update.setString(1, name);
            update.setLong(2, customer);
            same(update.executeUpdate(), 1);
        }
    }

    private static void rowsAreFound(Connection connection) throws Exception {
        Map<Long, Integer> ports = customers(connection, 0);
        apart(ports);
        for (int round = 0; round < 3; round++) {
            for (long customer : ports.keySet()) {
                same(names(connection, customer), "[jdbc]");
            }
        }
    }

    private static void transaction(Connection connection) throws Exception {
        long[] some = apart(customers(connection, 100));
        connection.setAutoCommit(false);
        rename(connection, "x", some[0]);
        rename(connection, "y", some[1]);
        connection.commit();
        same(names(connection, some[0], some[1]), "[x, y]");
        rename(connection, "z", some[0]);
        connection.rollback();
        same(names(connection, some[0], some[1]), "[x, y]");
        connection.rollback();
    }

    private static void secondShard(Connection connection) throws Exception {
        long[] some = apart(customers(connection, 200));
        connection.setAutoCommit(false);
        rename(connection, "lost", some[0]);
        rename(connection, "lost", some[2]);
        connection.rollback();
        same(names(connection, some[0], some[2]), "[jdbc, jdbc]");
        rename(connection, "both", some[0]);
        rename(connection, "both", some[2]);
        connection.commit();
        same(names(connection, some[0], some[2]), "[both, both]");
        connection.commit();
    }

    private static void batch(Connection connection, String name, long... customers) throws SQLException {
        try (PreparedStatement update = connection.prepareStatement(UPDATE)) {
            for (long customer : customers) {
                update.setString(1, name);
                update.setLong(2, customer);
                update.addBatch();
            }
            update.executeBatch();
        }
    }

    private static void batchInOneShard(Connection connection) throws Exception {
        long[] some = apart(customers(connection, 300));
        batch(connection, "b1", some[0], some[1]);
        same(names(connection, some[0], some[1]), "[b1, b1]");
        connection.setAutoCommit(false);
        batch(connection, "b2", some[0], some[1]);
        connection.commit();
        same(names(connection, some[0], some[1]), "[b2, b2]");
        connection.commit();
    }

    private static void batchAcrossShards(Connection connection) throws Exception {
        long[] some = apart(customers(connection, 400));
        batch(connection, "jdbc", some);
        same(names(connection, some), "[jdbc, jdbc, jdbc]");
        connection.setAutoCommit(false);
        batch(connection, "all", some);
        connection.rollback();
        same(names(connection, some), "[jdbc, jdbc, jdbc]");
        batch(connection, "all", some);
        connection.commit();
        same(names(connection, some), "[all, all, all]");
        connection.commit();
    }

    private static void rewrittenBatch(Connection connection) throws Exception {
        long[] some = apart(customers(connection, 500));
        String insert = "INSERT INTO orders (id, customer_id, status) VALUES (?, ?, 'new')";
        try (Connection rewriting = connect("reWriteBatchedInserts", "true");
                PreparedStatement orders = rewriting.prepareStatement(insert)) {
            for (int order = 1; order <= 4; order++) {
                orders.setLong(1, order);
                orders.setLong(2, some[0]);
                orders.addBatch();
            }
            orders.executeBatch();
            for (int order = 5; order <= 6; order++) {
                orders.setLong(1, order);
                orders.setLong(2, order == 5 ? some[0] : some[2]);
                orders.addBatch();
            }
            orders.executeBatch();
        }
        try (Statement statement = connection.createStatement();
                ResultSet row = statement.executeQuery(
                        "SELECT count(*), max(id) FROM orders WHERE customer_id = " + some[0])) {
            row.next();
            same(row.getInt(1) + " " + row.getInt(2), "5 5");
        }
    }

    private static void severalStatements(Connection connection) throws Exception {
        long[] some = apart(customers(connection, 600));
        String update = "UPDATE customers SET name = '%s' WHERE id = %d";
        for (String mode : new String[] {"simple", "extended"}) {
            try (Connection other = connect("preferQueryMode", mode); Statement statement = other.createStatement()) {
                statement.execute(String.format(update, "s1", some[0]) + "; " + String.format(update, "s2", some[1]));
                same(names(other, some[0], some[1]), "[s1, s2]");
                String across = String.format(update, "s3", some[0]) + "; " + String.format(update, "s3", some[2]);
                failsWith("22012", () -> statement.execute(across + "; SELECT 1/0"));
                same(names(other, some), "[s1, s2, jdbc]");
                statement.execute(across);
                same(names(other, some), "[s3, s2, s3]");
                rename(other, "jdbc", some[2]);
            }
        }
    }

    private static void fetchSize(Connection connection) throws Exception {
        connection.setAutoCommit(false);
        try (PreparedStatement select = connection.prepareStatement(
                "SELECT order_id, line FROM order_items WHERE customer_id = ? ORDER BY 1, 2")) {
            select.setFetchSize(2);
            select.setLong(1, 7);
            int rows = 0;
            try (ResultSet items = select.executeQuery()) {
                while (items.next()) {
                    rows++;
                }
            }
            try (Statement count = connection.createStatement();
                    ResultSet row = count.executeQuery("SELECT count(*) FROM order_items WHERE customer_id = 7")) {
                row.next();
                same(rows, row.getInt(1));
            }
        }
        try (Statement series = connection.createStatement()) {
            series.setFetchSize(100);
            long sum = 0;
            try (ResultSet rows = series.executeQuery("SELECT * FROM generate_series(1, 1000)")) {
                while (rows.next()) {
                    sum += rows.getLong(1);
                }
            }
            same(sum, 500500);
        }
        connection.commit();
    }

    private static void copy(Connection connection) throws Exception {
        var copies = connection.unwrap(PGConnection.class).getCopyAPI();
        same(copies.copyIn("COPY settings (name, value) FROM STDIN", new StringReader("jdbc_a\t1\njdbc_b\t2\n")), 2);
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        copies.copyOut("COPY (SELECT name FROM settings WHERE name LIKE 'jdbc%' ORDER BY 1) TO STDOUT", out);
        same(out, "jdbc_a\njdbc_b\n");
        try (Statement statement = connection.createStatement()) {
            same(statement.executeUpdate("DELETE FROM settings WHERE name LIKE 'jdbc%'"), 2);
        }
    }

    private static void metadata(Connection connection) throws Exception {
        List<String> columns = new ArrayList<>();
        try (ResultSet rows = connection.getMetaData().getColumns(null, "public", "order_items", null)) {
            while (rows.next()) {
                columns.add(rows.getString("COLUMN_NAME"));
            }
        }
        same(columns, "[customer_id, order_id, line, product, quantity, price]");
        List<String> tables = new ArrayList<>();
        try (ResultSet rows = connection.getMetaData().getTables(null, "public", "%", new String[] {"TABLE"})) {
            while (rows.next()) {
                tables.add(rows.getString("TABLE_NAME"));
            }
        }
        same(tables, "[countries, customers, order_items, orders, settings]");
        List<String> keys = new ArrayList<>();
        try (ResultSet rows = connection.getMetaData().getPrimaryKeys(null, "public", "orders")) {
            while (rows.next()) {
                keys.add(rows.getString("COLUMN_NAME"));
            }
        }
        keys.sort(null);
        same(keys, "[customer_id, id]");
    }

    private static void savepoints(Connection connection) throws Exception {
        long[] some = apart(customers(connection, 700));
        connection.setAutoCommit(false);
        rename(connection, "kept", some[0]);
        var savepoint = connection.setSavepoint();
        rename(connection, "lost", some[2]);
        connection.rollback(savepoint);
        connection.commit();
        same(names(connection, some), "[kept, jdbc, jdbc]");
        connection.commit();
    }

    private static void cancel(Connection connection) throws Exception {
        try (Statement statement = connection.createStatement()) {
            var ended = new CompletableFuture<Void>();
            var cancelling = CompletableFuture.runAsync(() -> {
                // One that comes before the statement does nothing, so it is repeated until it hits.
                while (!ended.isDone()) {
                    try {
                        TimeUnit.MILLISECONDS.sleep(200);
                        statement.cancel();
                    } catch (SQLException | InterruptedException error) {
                        throw new RuntimeException(error);
                    }
                }
            });
            try {
                failsWith("57014", () -> statement.execute("SELECT pg_sleep(50)"));
            } finally {
                ended.complete(null);
            }
            cancelling.get(30, TimeUnit.SECONDS);
        }
        same(names(connection, 7), "[" + names(connection, 7).get(0) + "]");
    }

    private static void queryTimeout(Connection connection) throws Exception {
        try (Statement statement = connection.createStatement()) {
            statement.setQueryTimeout(1);
            failsWith("57014", () -> statement.execute("SELECT pg_sleep(50)"));
        }
    }

    private static void listen(Connection connection) throws Exception {
        try (Statement statement = connection.createStatement(); Connection speaker = connect();
                Statement says = speaker.createStatement()) {
            statement.execute("LISTEN jdbc_channel");
            says.execute("NOTIFY jdbc_channel, 'hello'");
            PGNotification[] heard = connection.unwrap(PGConnection.class).getNotifications(30_000);
            same(heard.length, 1);
            same(heard[0].getName() + " " + heard[0].getParameter(), "jdbc_channel hello");
        }
    }

    private static void errors(Connection connection) throws Exception {
        try (Statement statement = connection.createStatement()) {
            failsWith("42P01", () -> statement.execute("SELECT * FROM no_such_table"));
            failsWith("42601", () -> statement.execute("SELEC 1"));
            failsWith("22012", () -> statement.execute("SELECT 1/0"));
        }
        long customer = customers(connection, 800).keySet().iterator().next();
        try (PreparedStatement insert = connection.prepareStatement(INSERT)) {
            insert.setLong(1, customer);
            insert.setString(2, "twice");
            failsWith("23505", insert::execute);
        }
    }
}
