"""A local HTTP server that breaks, truncates, resets and lies."""

import hashlib
import re
import socket
import struct
import threading
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from probe.datasets import RemoteFile

CONFIRM = b"<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head></html>"
LABELS = {"text/html": {"type": "text/html"}, "gzip": {"encoding": "x-gzip"}}


class Server(ThreadingHTTPServer):
    """Serves `files`, and `drive` by id; `behave` takes one entry a request, then behaves well.

    ``/download?id=ID&export=download`` is a drive: without ``confirm=t`` it answers with a page that asks.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.drive, self.behave, self.asked = {}, {}, [], []

    def url(self, name):
        return f"http://127.0.0.1:{self.server_port}/{name}"

    def handle_error(self, request, client_address):
        """Broken connections are the point here."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        """Quiet."""

    def do_GET(self):
        server = self.server
        address = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(address.query).items()}
        content = server.files.get(address.path.lstrip("/"))
        if address.path == "/download":
            content = server.drive.get(query["id"])
            if query.get("confirm") != "t":
                return self.send_whole(200, CONFIRM, type="text/html; charset=utf-8")
        start = int(re.match(r"bytes=(\d+)-", self.headers.get("Range", "bytes=0-"))[1])
        server.asked.append(start)
        how = server.behave.pop(0) if server.behave else "well"
        if content is None or how in (404, 403, 503):
            return self.send_whole(how if content is not None else 404, b"no")
        if how == "page":
            return self.send_whole(200, b"<html>sign in</html>", type="text/html")
        if how == "portal":
            return self.send_whole(200, b"\n<!DOCTYPE html><title>Hotel</title>" + bytes(len(content)))
        if how == "redirect":
            self.send_response(302)
            self.send_header("Location", server.url("download?id=nobody"))
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if how == "dropped":
            self.close_connection = True
            return self.connection.shutdown(socket.SHUT_RDWR)
        if how in ("text/html", "gzip"):
            return self.send_whole(200, content, **LABELS[how])
        if how == "other":
            return self.send_whole(200, b"x" * len(content))
        if how == "longer":
            return self.send_whole(200, content + b"tail")
        if how == "no ranges" or (start == 0 and how == "well"):
            return self.send_whole(200, content)
        if start >= len(content):
            return self.send_whole(416, b"")
        if how == "wrong part":
            return self.send_part(content, 0 if start else 5)
        return self.send_part(content, start, how)

    def send_whole(self, status, body, type="application/octet-stream", encoding=""):
        self.send_response(status)
        self.send_header("Content-Type", type)
        if encoding:
            self.send_header("Content-Encoding", encoding)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def send_part(self, content, start, how="well"):
        rest = content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if how != "unannounced":
            self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest if how == "well" else rest[: len(rest) // 3 + 1])
        self.wfile.flush()
        if how == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if how != "well":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR) if how != "reset" else self.connection.close()


@contextmanager
def running_server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def serve(server, row, contents):
    server.files |= contents
    files = tuple(
        RemoteFile(name, server.url(name), len(raw), sha256=hashlib.sha256(raw).hexdigest())
        for name, raw in contents.items()
    )
    return replace(row, files=files)
