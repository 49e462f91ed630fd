"""A server on loopback that speaks as much of OpenAI's protocol as rewording asks for."""

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """Speaks as much of the protocol as is asked; what it says is set by the test."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = []
        self.keys = set()
        self.say = lambda text, number: f"Said anew: {text.splitlines()[-1]} ({number})"
        self.fail_at = {}
        """By the number of a call: the status that it is answered with."""
        self.finish = lambda text, number: "stop"
        """Why an answer ends, as the protocol calls it."""
        self.refuse = lambda asked: None
        """The status and the words with which a request is refused; None: it is not."""
        self.send = lambda number: None
        """The bytes that a call is answered with, by its number; None: a completion."""

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        server = self.server
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.keys.add(self.headers["Authorization"])
        number = len(server.asked)
        server.asked.append((self.path, asked))
        failed = server.fail_at.get(number)
        refused = server.refuse(asked) or (failed and (failed, "no such\nmodel"))
        status, words = refused or (200, "")
        said = server.say(asked["messages"][0]["content"], number)
        answer = {
            "id": "x", "object": "chat.completion", "created": 0, "model": asked["model"],
            "choices": [{"index": 0, "finish_reason": server.finish(said, number),
                         "message": {"role": "assistant", "content": said}}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11},
        } if status == 200 else {"error": {"message": words}}  # fmt: skip
        content = server.send(number)
        if content is None:
            content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def rewording_server():
    """Serve until the block ends; what it says, and where it fails, is set by the test."""
    served = Server()
    thread = threading.Thread(target=served.serve_forever)
    thread.start()
    try:
        yield served
    finally:
        served.shutdown()
        thread.join()
        served.server_close()
