"""Stands in for the image of ingress-nginx's controller: it says that it is well, and no more.

What it should do for Ingresses the embedded cluster does.
"""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    sys.stdout.write(f"asked: {' '.join(sys.argv[2:])}\n")
    sys.stdout.flush()
    HTTPServer((sys.argv[1], 10254), Health).serve_forever()
