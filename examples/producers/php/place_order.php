<?php
// Places an order and records that it was placed: both, or neither. Needs the extension pdo_pgsql.
//
//     php place_order.php 'pgsql:host=localhost;dbname=shop' 42 99.50

declare(strict_types=1);

function placeOrder(PDO $connection, int $orderId, string $total): void
{
    $connection->beginTransaction();
    try {
        $connection
            ->prepare("insert into orders (id, total, status) values (?, ?, 'placed')")
            ->execute([$orderId, $total]);
        // After the statement that inserts or locks the order, so that its events stay in order.
        $connection
            ->prepare('insert into outbox.events (type, aggregate_type, aggregate_id, payload) values (?, ?, ?, ?)')
            ->execute([
                'order.placed',
                'order',
                (string) $orderId,
                json_encode(['order_id' => $orderId, 'total' => $total], JSON_THROW_ON_ERROR),
            ]);
        $connection->commit();
    } catch (Throwable $error) {
        $connection->rollBack();
        throw $error;
    }
}

[, $dsn, $orderId, $total] = $argv;
$connection = new PDO($dsn, options: [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
placeOrder($connection, (int) $orderId, $total);
