// Places an order and records that it was placed: both, or neither. Needs pg.
//
//     node place_order.js postgres://localhost/shop 42 99.50

import { Pool } from "pg";

async function placeOrder(pool: Pool, orderId: number, total: string): Promise<void> {
  // Not pool.query: it may take another connection for each statement, and then there is no transaction.
  const client = await pool.connect();
  try {
    await client.query("begin");
    await client.query("insert into orders (id, total, status) values ($1, $2, 'placed')", [orderId, total]);
    // After the statement that inserts or locks the order, so that its events stay in order.
    await client.query(
      "insert into outbox.events (type, aggregate_type, aggregate_id, payload) values ($1, $2, $3, $4)",
      ["order.placed", "order", String(orderId), JSON.stringify({ order_id: orderId, total })],
    );
    await client.query("commit");
  } catch (error) {
    await client.query("rollback");
    throw error;
  } finally {
    client.release();
  }
}

async function main([url, orderId, total]: string[]): Promise<void> {
  const pool = new Pool({ connectionString: url });
  try {
    await placeOrder(pool, Number(orderId), total);
  } finally {
    await pool.end();
  }
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
