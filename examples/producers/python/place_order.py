"""Places an order and records that it was placed: both, or neither. Needs psycopg 3.

    python place_order.py postgres://localhost/shop 42 99.50
"""

import json
import sys

import psycopg


def place_order(connection, order_id, total):
    # Commits at the end of the block, rolls back if anything in it fails.
    with connection.transaction():
        connection.execute(
            "insert into orders (id, total, status) values (%s, %s, 'placed')",
            (order_id, total),
        )
        # After the statement that inserts or locks the order, so that its events stay in order.
        connection.execute(
            "insert into outbox.events (type, aggregate_type, aggregate_id, payload) values (%s, %s, %s, %s)",
            ("order.placed", "order", str(order_id), json.dumps({"order_id": order_id, "total": total})),
        )


if __name__ == "__main__":
    url, order_id, total = sys.argv[1:]
    with psycopg.connect(url) as connection:
        place_order(connection, int(order_id), total)
