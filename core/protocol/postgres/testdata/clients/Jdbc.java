// A JDBC program that knows nothing of the gateway.
import java.io.StringReader;
import java.io.StringWriter;
import java.net.URI;
import java.sql.*;
import java.util.*;
import org.postgresql.PGConnection;
import org.postgresql.util.PSQLException;

public class Jdbc {
    static Connection connect(String more) throws Exception {
        URI u = new URI(System.getenv("DATABASE_URL"));
        String[] who = u.getUserInfo().split(":");
        return DriverManager.getConnection("jdbc:postgresql://" + u.getHost() + ":" + u.getPort() + u.getPath() + "?sslmode=disable&" + more, who[0], who[1]);
    }

    static String names(ResultSet r, String column) throws SQLException {
        TreeSet<String> list = new TreeSet<>();
        while (r.next()) list.add(r.getString(column));
        return String.join(" ", list);
    }

    static void tour(Connection c) throws Exception {
        PreparedStatement s = c.prepareStatement("select id, status, total, created from orders where id = ?");
        for (int i = 1; i <= 7; i++) { // from the fifth on a statement of the server's, with values in binary
            s.setInt(1, i % 2 == 0 ? 4 : 3);
            ResultSet r = s.executeQuery();
            r.next();
            if (i > 5) System.out.println("row " + r.getInt(1) + " " + r.getString(2) + " " + (r.getTimestamp(4) != null));
        }
        try (Statement x = c.createStatement()) {
            x.executeUpdate("delete from orders where id = 3");
        } catch (PSQLException e) {
            var m = e.getServerErrorMessage();
            System.out.println("refused " + e.getSQLState() + " | " + m.getMessage() + " | " + m.getDetail() + " | " + m.getHint());
        }
        try (Statement x = c.createStatement()) {
            x.executeQuery("select id, nothing from orders");
        } catch (PSQLException e) {
            System.out.println("at " + e.getServerErrorMessage().getPosition());
        }
        c.setAutoCommit(false);
        PreparedStatement b = c.prepareStatement("insert into items (order_id, sku, quantity, price) values (?, ?, ?, ?)", Statement.RETURN_GENERATED_KEYS);
        for (int i = 0; i < 10; i++) {
            b.setInt(1, 1); b.setString(2, "jdbc"); b.setInt(3, i); b.setInt(4, 1);
            b.addBatch();
        }
        int done = 0, keys = 0;
        for (int n : b.executeBatch()) done += n;
        for (ResultSet k = b.getGeneratedKeys(); k.next(); ) keys++;
        System.out.println("batch " + done + " " + keys);
        Savepoint p = c.setSavepoint();
        try (Statement x = c.createStatement()) {
            x.execute("delete from orders");
        } catch (SQLException e) {
            c.rollback(p);
        }
        Statement f = c.createStatement();
        f.setFetchSize(30);
        long sum = 0;
        for (ResultSet r = f.executeQuery("select id from orders order by id"); r.next(); ) sum += r.getLong(1);
        System.out.println("by and by " + sum);
        c.rollback();
        c.setAutoCommit(true);
        try (Statement x = c.createStatement()) {
            StringBuilder all = new StringBuilder();
            for (boolean rows = x.execute("select 1; update orders set note = 'j' where id = 3; select 2"); rows || x.getUpdateCount() >= 0; rows = x.getMoreResults()) {
                if (rows) { ResultSet r = x.getResultSet(); r.next(); all.append(" ").append(r.getInt(1)); }
                else all.append(" (").append(x.getUpdateCount()).append(")");
            }
            System.out.println("several" + all);
            x.execute("listen news");
            x.execute("notify news, 'hello'");
            for (var n : c.unwrap(PGConnection.class).getNotifications()) System.out.println("heard " + n.getParameter());
        }
        var copy = c.unwrap(PGConnection.class).getCopyAPI();
        StringWriter out = new StringWriter();
        System.out.println("copied " + copy.copyOut("copy (select id, status from orders where id < 3 order by id) to stdout", out) + " " + out.toString().replace("\t", ",").replace("\n", ";"));
        System.out.println("copied in " + copy.copyIn("copy items (order_id, sku, quantity, price) from stdin", new StringReader("1\tj\t1\t1\n2\tj\t1\t1\n")));
        try {
            copy.copyIn("copy items (order_id, sku, quantity, price) from stdin", new StringReader("not a number\n"));
        } catch (SQLException e) {
            System.out.println("not copied " + e.getSQLState());
        }
        try (Statement x = c.createStatement()) {
            x.setQueryTimeout(1);
            x.execute("select count(*) from orders a, orders b, orders c, orders d, orders e, orders f");
        } catch (SQLException e) {
            System.out.println("cancelled " + e.getSQLState());
        }
    }

    public static void main(String[] args) throws Exception {
        for (String mode : new String[] {"preferQueryMode=extended", "preferQueryMode=extendedCacheEverything&reWriteBatchedInserts=true", "preferQueryMode=simple"}) {
            try (Connection c = connect(mode)) {
                tour(c);
            }
        }
        try (Connection c = connect("ApplicationName=tour")) {
            DatabaseMetaData m = c.getMetaData();
            System.out.println("tables " + names(m.getTables(null, "public", "o%", new String[] {"TABLE"}), "TABLE_NAME"));
            System.out.println("views " + names(m.getTables(null, null, "%", new String[] {"VIEW"}), "TABLE_NAME"));
            System.out.println("columns " + names(m.getColumns(null, "public", "orders", "%"), "COLUMN_NAME"));
            System.out.println("key " + names(m.getPrimaryKeys(null, "public", "orders"), "COLUMN_NAME"));
            System.out.println("foreign " + names(m.getImportedKeys(null, "public", "items"), "PKTABLE_NAME"));
            System.out.println("referred " + names(m.getExportedKeys(null, "public", "orders"), "FKTABLE_NAME"));
            System.out.println("indexes " + names(m.getIndexInfo(null, "public", "customers", true, false), "INDEX_NAME"));
            System.out.println("schemas " + names(m.getSchemas(), "TABLE_SCHEM"));
            System.out.println("types " + (names(m.getTypeInfo(), "TYPE_NAME").length() > 100));
            System.out.println("functions " + names(m.getFunctions(null, "public", "purge"), "FUNCTION_NAME"));
            System.out.println("privileges " + names(m.getTablePrivileges(null, "public", "orders"), "TABLE_NAME"));
            System.out.println("keywords " + (m.getSQLKeywords().length() > 100) + ", " + c.getTransactionIsolation() + ", " + c.isValid(5));
        }
    }
}
