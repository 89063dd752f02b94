"""A proxy before the S3 server that loses answers, changes requests or lets nothing through: what a network or another server does."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Meddling:
    """What the proxy does to a request, told by method, path and headers; the headers may be changed."""

    port: int
    before: Callable[[str, str, Message], None] = lambda method, path, headers: None
    is_lost: Callable[[str, str, Message], bool] = lambda method, path, headers: False
    """Whether the connection goes down instead of a request being passed on."""
    is_answer_lost: Callable[[str, str, Message], bool] = lambda method, path, headers: False
    """Whether it goes down when the server has done what was asked."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def meddling_proxy(server_port: int) -> Iterator[Meddling]:
    """A proxy that meddles with nothing until it is told to."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # clients wait for "100 Continue" before they send

        def handle_one(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            meddling.before(self.command, self.path, self.headers)
            self.close_connection = True
            del self.headers["Expect"]
            told = (self.command, self.path, self.headers)
            if meddling.is_lost(*told):
                return
            connection = http.client.HTTPConnection("127.0.0.1", server_port, timeout=30)
            connection.request(self.command, self.path, body, dict(self.headers.items()))
            answer = connection.getresponse()
            content = answer.read()
            if meddling.is_answer_lost(*told):
                return
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("connection", "date", "server"):
                    self.send_header(name, value)
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = handle_one

        def log_message(self, *_: object) -> None:
            pass

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    meddling = Meddling(proxy.server_address[1])
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    yield meddling
    proxy.shutdown()
    proxy.server_close()
