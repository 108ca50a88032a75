# Places an order and records that it was placed: both, or neither. Needs the gem pg.
#
#     ruby place_order.rb postgres://localhost/shop 42 99.50

require "json"
require "pg"

def place_order(connection, order_id, total)
  # Commits at the end of the block, rolls back if anything in it fails.
  connection.transaction do
    connection.exec_params("insert into orders (id, total, status) values ($1, $2, 'placed')", [order_id, total])
    # After the statement that inserts or locks the order, so that its events stay in order.
    connection.exec_params(
      "insert into outbox.events (type, aggregate_type, aggregate_id, payload) values ($1, $2, $3, $4)",
      ["order.placed", "order", order_id.to_s, JSON.generate(order_id: order_id, total: total)]
    )
  end
end

url, order_id, total = ARGV
connection = PG.connect(url)
place_order(connection, Integer(order_id), total)
connection.close
