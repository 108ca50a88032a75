"""Reads a topic of Kafka from its beginning to its end and prints each record, partition by partition, by confluent-kafka.

python3 kafka_read.py BROKERS TOPIC PROPERTIES
"""

import json
import sys

from confluent_kafka import Consumer, TopicPartition

PATIENCE = 30


def texts(headers):
    return {name: value.decode() for name, value in headers or []}


def main(brokers, topic, properties):
    settings = {"bootstrap.servers": brokers, "group.id": "outboxd-test", "enable.auto.commit": False, "auto.offset.reset": "earliest"}
    client = Consumer({**settings, **json.loads(properties)})
    partitions = client.list_topics(topic, PATIENCE).topics[topic].partitions
    for partition in sorted(partitions):
        low, high = client.get_watermark_offsets(TopicPartition(topic, partition), PATIENCE)
        if low >= high:
            continue
        client.assign([TopicPartition(topic, partition, low)])
        while True:
            record = client.poll(PATIENCE)
            if record is None:
                sys.exit(f"partition {partition} ends at {high}, and nothing more came")
            if record.error():
                sys.exit(str(record.error()))
            line = {
                "partition": partition,
                "offset": record.offset(),
                "key": (record.key() or b"").decode(),
                "value": record.value().decode(),
                "headers": texts(record.headers()),
            }
            print(json.dumps(line))
            if record.offset() + 1 >= high:
                break
    client.close()


main(*sys.argv[1:])
