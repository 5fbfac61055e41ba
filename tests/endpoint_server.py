"""A server on the loopback that speaks the chat API, and every kind of trouble with it."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def answer(content, finish="stop", **more):
    """The JSON of a usual answer."""
    message = {"role": "assistant", "content": content} | more.pop("message", {})
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 60}}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return {"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage} | more


def error(status, message, headers=None, code=None):
    return status, {"error": {"message": message, "code": code}}, headers or {}


class Server:
    """`reply(body, n)` answers the n-th request: JSON of an answer, `(status, JSON or text, headers)`, or
    seconds to hang before the usual answer.

    Attributes:
        bodies, headers: of every request; `most` at the same time.
    """

    def __init__(self, reply, models=("stub",), owner="somebody"):
        self.reply, self.models, self.owner = reply, models, owner
        self.bodies, self.headers, self.most, self.now = [], [], 0, 0
        self.lock, self.over = threading.Lock(), threading.Event()

    def handle(self, body, headers):
        with self.lock:
            n = len(self.bodies)
            self.bodies.append(body)
            self.headers.append({name.lower(): value for name, value in headers.items()})
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            found = self.reply(body, n)
            if isinstance(found, int | float):
                self.over.wait(found)
                found = answer("late")
            return found if isinstance(found, tuple) else (200, found, {})
        finally:
            with self.lock:
                self.now -= 1


@contextmanager
def serving(reply, **options):
    """(server, its address with /v1)."""
    server = Server(reply, **options)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            models = [{"id": m, "object": "model", "owned_by": server.owner} for m in server.models]
            self.send(200, {"object": "list", "data": models}, {})

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path != "/v1/chat/completions":
                return self.send(404, {"error": {"message": f"no route {self.path}"}}, {})
            return self.send(*server.handle(body, self.headers))

        def send(self, status, content, headers):
            text = content if isinstance(content, str) else json.dumps(content)
            data = text.encode("utf-8", "surrogatepass")
            try:
                self.send_response(status)
                kind = headers.get("Content-Type", "application/json")
                for name, value in (
                    headers | {"Content-Type": kind, "Content-Length": str(len(data))}
                ).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)
            except OSError:  # the client has given up
                self.close_connection = True

        def log_message(self, *arguments):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server, f"http://127.0.0.1:{http.server_address[1]}/v1"
    finally:
        server.over.set()
        http.shutdown()
        http.server_close()
        thread.join()
