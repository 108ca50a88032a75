"""Reads from an MQTT 5 broker with paho, in a session that outlives its connection: what arrives while it is away waits for it.
Prints each message as one JSON object; the first line is {"ready": true}.

    mqtt_read.py <port> <topic filter> [<username> <password>]
"""

import json
import sys
import threading
import uuid

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

port, topic = int(sys.argv[1]), sys.argv[2]
seen_mids = set()
subscribed = threading.Event()


def tell(value):
    print(json.dumps(value), flush=True)


def on_connect(client, _userdata, flags, reason, _properties):
    if reason.is_failure:
        print(f"refused: {reason}", file=sys.stderr, flush=True)
    elif not flags.session_present:
        client.subscribe(topic, qos=2)


def on_subscribe(_client, _userdata, _mid, _reasons, _properties):
    if not subscribed.is_set():
        subscribed.set()
        tell({"ready": True})


def on_message(_client, _userdata, message):
    # What the broker sends us again after a reconnect is its doubt about us, not another publication.
    if message.dup and (message.mid, message.payload) in seen_mids:
        return
    seen_mids.add((message.mid, message.payload))
    properties = message.properties
    tell({
        "topic": message.topic,
        "payload": message.payload.decode(),
        "qos": message.qos,
        "retain": message.retain,
        "content_type": getattr(properties, "ContentType", None),
        "utf8": getattr(properties, "PayloadFormatIndicator", None),
        "expiry": getattr(properties, "MessageExpiryInterval", None),
        "properties": dict(getattr(properties, "UserProperty", [])),
    })


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=f"reader-{uuid.uuid4()}", protocol=mqtt.MQTTv5)
if len(sys.argv) > 3:
    client.username_pw_set(sys.argv[3], sys.argv[4])
client.on_connect, client.on_subscribe, client.on_message = on_connect, on_subscribe, on_message
# Shorter than a second is not to be had for the later tries.
client.reconnect_delay_set(min_delay=1, max_delay=1)
session = Properties(PacketTypes.CONNECT)
session.SessionExpiryInterval = 3600
client.connect("127.0.0.1", port, keepalive=30, clean_start=False, properties=session)
client.loop_forever(retry_first_connection=False)
