"""A client of the hub by signalrcore, which keeps its cursor: an address, a token, and the types it wants. Prints what it receives."""
import json
import logging
import sys
import threading
import time

from signalrcore.hub_connection_builder import HubConnectionBuilder

url, token, types = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
cursor = None


def say(what):
    print(json.dumps(what), flush=True)


def on_event(arguments):
    global cursor
    event, cursor = arguments
    say({"id": event["id"], "type": event["type"]})


def follow():
    over = threading.Event()
    options = {"headers": {"Authorization": f"Bearer {token}"}, "verify_ssl": False}
    hub = HubConnectionBuilder().with_url(url, options=options).configure_logging(logging.CRITICAL).build()
    hub.on("event", on_event)
    hub.on_open(lambda: hub.send("Subscribe", [{"types": types}, cursor]))
    hub.on_close(over.set)
    hub.on_error(lambda error: over.set())
    hub.start()
    over.wait()
    hub.stop()


say({"ready": True})
while True:
    try:
        follow()
    except Exception as error:  # whatever ends it
        print(repr(error), file=sys.stderr, flush=True)
    time.sleep(0.05)
