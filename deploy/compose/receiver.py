"""A receiver to look at: prints every webhook and refuses every fifth, so that a retry can be seen."""

import itertools
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

numbers = itertools.count(1)


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        status = 503 if next(numbers) % 5 == 0 else 200
        print(status, self.headers.get("webhook-id"), body.decode(errors="replace"))
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("", 8080), Receiver).serve_forever()
