"""A web server that serves a folder by ranges, stands before another server, and misbehaves.

``faults`` maps a part of a request's path to what goes wrong with the next requests for it, one
after the other; "" is any path. A callable in its place sees every request: ``(count, path)``.
"""

import gzip
import http.client
import re
import socket
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FAULTS = "drop cut short_part hang trickle 429 500 503 404 html whole wrong_part".split()


class BadServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, folder: Path, upstream: tuple[str, int] | None = None):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.upstream = folder, upstream
        self.faults: dict[str, list[str]] | Callable[[int, str], str | None] = {}
        self.retry_after: str | None = "0"
        self.rewrites: dict[bytes, bytes] = {}  # in the answers of the other server
        self.hang_s = 2.0
        self.log: list[tuple[float, str, str, str | None]] = []  # time, path, range, fault
        self.bodies: list[bytes] = []
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def asked(self, part: str = "") -> list[tuple[float, str, str, str | None]]:
        return [entry for entry in self.log if part in entry[1]]

    def next_fault(self, path: str) -> str | None:
        if callable(self.faults):
            return self.faults(len(self.log), path)
        for part, queue in self.faults.items():
            if part in path and queue:
                return queue[0] if queue[0].endswith("!") else queue.pop(0)  # "!": for ever
        return None

    def handle_error(self, request, client_address):
        pass  # a client that was killed


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: BadServer

    def log_message(self, *args):
        pass

    def do_POST(self):
        self.answer(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def do_GET(self):
        self.answer(None)

    do_HEAD = do_GET

    def answer(self, body):
        server = self.server
        with server.lock:
            fault = (server.next_fault(self.path) or "").rstrip("!")
            server.log.append((time.monotonic(), self.path, self.headers.get("Range"), fault))
            if body is not None:
                server.bodies.append(body)
        if fault == "drop":
            self.close()
        elif fault == "hang":
            time.sleep(server.hang_s)
            self.close()
        elif fault.isdigit():
            more = {"Retry-After": server.retry_after} if server.retry_after is not None else {}
            self.send(int(fault), b"no", more if fault in ("429", "503") else {})
        elif fault == "html":
            self.send(200, b"<html>Please log in to this hotel</html>")
        elif self.path.startswith("/files/"):
            self.send_file(fault)
        elif server.upstream:
            self.forward(body, fault)
        else:
            self.send(404, b"")

    def close(self):
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def send(self, status, content, headers=None, fault=""):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault == "cut":
            self.wfile.write(content[: len(content) // 2])
            self.close()
        elif fault == "trickle":
            for i in range(len(content)):
                self.wfile.write(content[i : i + 1])
                time.sleep(0.05)
        else:
            self.wfile.write(content)

    def send_file(self, fault):
        path = (self.server.folder / self.path.split("?")[0].removeprefix("/files/")).resolve()
        if self.server.folder.resolve() not in path.parents or not path.is_file():
            return self.send(404, b"")
        content = path.read_bytes()
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
        if span is None or fault == "whole":
            return self.send(200, content, fault=fault)
        start, stop = int(span[1]), min(int(span[2]) + 1, len(content))
        if start >= len(content):
            return self.send(416, b"")
        part = content[start:stop]
        if fault == "short_part":
            part = part[: len(part) // 2]
        start += fault == "wrong_part"
        about = {"Content-Range": f"bytes {start}-{start + len(part) - 1}/{len(content)}"}
        self.send(206, part, about, fault)

    def forward(self, body, fault):
        connection = http.client.HTTPConnection(*self.server.upstream, timeout=10)
        kind = {"Content-Type": self.headers.get("Content-Type", "application/json")}
        connection.request(self.command, self.path, body, kind if body is not None else {})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        for old, new in self.server.rewrites.items():
            content = content.replace(old, new)
        about = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        self.send(answer.status, gzip.compress(content), about, fault)


@contextmanager
def serve(folder: Path, upstream: tuple[str, int] | None = None):
    server = BadServer(folder, upstream)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
