"""Publishes one message with paho and waits for its acknowledgement.

    mqtt_publish.py <port> <topic> <payload>
"""

import sys

import paho.mqtt.client as mqtt

port, topic, payload = int(sys.argv[1]), sys.argv[2], sys.argv[3]
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
client.connect("127.0.0.1", port)
client.loop_start()
client.publish(topic, payload, qos=1).wait_for_publish(60)
client.disconnect()
client.loop_stop()
