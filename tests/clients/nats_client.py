"""An independent client of NATS (nats-py): makes streams, reads back what they hold, and listens.

nats_client.py create <url> <stream> <subject> [key=value ...]   options of the stream, values as JSON
nats_client.py purge <url> <stream>
nats_client.py read <url> <stream>                               one object per event, in order
nats_client.py listen <url> <subject>                            goes on printing what arrives

TLS files stand behind the url: tls://host:port?ca=...&cert=...&key=...
"""

import asyncio
import json
import ssl
import sys
from urllib.parse import parse_qsl, urlsplit

import nats
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig

KINDS = {"discard": DiscardPolicy, "storage": StorageType, "retention": RetentionPolicy}


def show(message):
    print(json.dumps({
        "subject": message.subject,
        "headers": dict(message.headers or {}),
        "body": message.data.decode(),
    }), flush=True)


def tls(files):
    if "ca" not in files:
        return None
    context = ssl.create_default_context(cafile=files["ca"])
    if "cert" in files:
        context.load_cert_chain(files["cert"], files["key"])
    return context


async def create(connection, stream, subject, *options):
    settings = dict(option.split("=", 1) for option in options)
    settings = {name: json.loads(value) for name, value in settings.items()}
    settings = {name: KINDS[name](value) if name in KINDS else value for name, value in settings.items()}
    config = StreamConfig(name=stream, subjects=[subject], **settings)
    await connection.jetstream().add_stream(config)


async def purge(connection, stream):
    await connection.jetstream().purge_stream(stream)


async def read(connection, stream):
    jetstream = connection.jetstream()
    state = (await jetstream.stream_info(stream)).state
    if state.messages == 0:
        return
    reader = await jetstream.subscribe(">", stream=stream, ordered_consumer=True)
    for _ in range(state.messages):
        show(await reader.next_msg(timeout=30))


async def listen(connection, subject):
    listener = await connection.subscribe(subject)
    await connection.flush()
    print(json.dumps({"ready": True}), flush=True)
    async for message in listener.messages:
        show(message)


async def main(command, url, *arguments):
    address = urlsplit(url)
    server = f"{address.scheme}://{address.netloc}"
    files = dict(parse_qsl(address.query))
    connection = await nats.connect(server, tls=tls(files), allow_reconnect=False, connect_timeout=30)
    await {"create": create, "purge": purge, "read": read, "listen": listen}[command](connection, *arguments)
    await connection.close()


asyncio.run(main(*sys.argv[1:]))
