// Places an order and records that it was placed: both, or neither. Needs the JDBC driver of Postgres.
//
//     java -cp postgresql.jar PlaceOrder.java jdbc:postgresql://localhost/shop 42 99.50

import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;

class PlaceOrder {
    static void placeOrder(Connection connection, long orderId, BigDecimal total) throws SQLException {
        connection.setAutoCommit(false);
        try (var order = connection.prepareStatement("insert into orders (id, total, status) values (?, ?, 'placed')");
             // The cast is needed because the driver sends a string as varchar.
             var event = connection.prepareStatement(
                 "insert into outbox.events (type, aggregate_type, aggregate_id, payload) values (?, ?, ?, ?::json)")) {
            order.setLong(1, orderId);
            order.setBigDecimal(2, total);
            order.executeUpdate();
            // After the statement that inserts or locks the order, so that its events stay in order.
            event.setString(1, "order.placed");
            event.setString(2, "order");
            event.setString(3, Long.toString(orderId));
            // A program with a JSON library uses that.
            event.setString(4, "{\"order_id\": %d, \"total\": \"%s\"}".formatted(orderId, total.toPlainString()));
            event.executeUpdate();
            connection.commit();
        } catch (SQLException error) {
            connection.rollback();
            throw error;
        }
    }

    public static void main(String[] arguments) throws SQLException {
        try (var connection = DriverManager.getConnection(arguments[0])) {
            placeOrder(connection, Long.parseLong(arguments[1]), new BigDecimal(arguments[2]));
        }
    }
}
