"""What the tests of the kind rabbitmq do to a broker beside outboxd: make and remove topology, read what has arrived.

usage: rabbitmq_client.py URL '[["queue", "q", {"x-max-length": 1}], ["bind", "q", "orders", "order.#"], ["read", "q"]]'
Each message that "read" finds is printed as a line of JSON and stays in the queue.
"""
import json
import sys

import pika


def read(channel, queue):
    while True:
        method, properties, body = channel.basic_get(queue)
        if method is None:
            break
        print(json.dumps({
            "body": body.decode(),
            "routing_key": method.routing_key,
            "headers": properties.headers or {},
            "message_id": properties.message_id,
            "type": properties.type,
            "timestamp": properties.timestamp,
            "content_type": properties.content_type,
            "delivery_mode": properties.delivery_mode,
            "app_id": properties.app_id,
        }))


def main(url, steps):
    connection = pika.BlockingConnection(pika.URLParameters(url))
    acts = {
        "exchange": lambda name, kind: channel.exchange_declare(name, kind, durable=True),
        "delete_exchange": lambda name: channel.exchange_delete(name),
        "queue": lambda name, arguments: channel.queue_declare(name, durable=True, arguments=arguments),
        "purge": lambda name: channel.queue_purge(name),
        "bind": lambda queue, exchange, key: channel.queue_bind(queue, exchange, key),
        "read": lambda queue: read(channel, queue),
    }
    # What was read without an acknowledgement goes back to its place when the connection ends.
    channel = connection.channel()
    for name, *arguments in steps:
        acts[name](*arguments)
    connection.close()


main(sys.argv[1], json.loads(sys.argv[2]))
