"""A client of the hub by pysignalr, which keeps its cursor: an address, a token, and the types it wants. Prints what it receives."""
import asyncio
import json
import sys

from pysignalr.client import SignalRClient

url, token, types = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
cursor = None
is_ready = False


def say(what):
    print(json.dumps(what), flush=True)


async def follow():
    # A new one each time: this library comes back with the id of the connection that has ended.
    client = SignalRClient(url, headers={"Authorization": f"Bearer {token}"}, max_size=None)

    async def on_event(arguments):
        global cursor
        event, cursor = arguments
        say({"id": event["id"], "type": event["type"]})

    async def on_open():
        await asyncio.sleep(0)
        asyncio.ensure_future(client.send("Subscribe", [{"types": types}, cursor], on_answer))

    async def on_answer(message):
        if message.error:
            say({"error": message.error})

    async def on_error(message):
        say({"error": message.error})

    client.on("event", on_event)
    client.on_open(on_open)
    client.on_error(on_error)
    running = asyncio.ensure_future(client.run())
    await running


async def main():
    say({"ready": True})
    while True:
        try:
            await follow()
        except Exception as error:  # whatever ends it
            print(repr(error), file=sys.stderr, flush=True)
            await asyncio.sleep(0.05)


asyncio.run(main())
