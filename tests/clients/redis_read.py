"""Reads all entries of a stream: redis_read.py PORT STREAM. Prints {"entry": id, "fields": {...}} for each, in order."""

import json
import sys

import redis

port, stream = int(sys.argv[1]), sys.argv[2]
client = redis.Redis(host="127.0.0.1", port=port, decode_responses=True)
for entry, fields in client.xrange(stream):
    print(json.dumps({"entry": entry, "fields": fields}))
