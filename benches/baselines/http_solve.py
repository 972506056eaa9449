"""NumPy behind HTTP as one writes it in an afternoon: http.server, json, numpy.linalg.solve. Started by run.py.

    http_solve.py PORT        listens at 127.0.0.1:PORT (0: any), and says where in a line of JSON; ends with its stdin

POST with {"a": [[row], ...], "b": [...]} is answered by {"x": [...]}.
"""

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy


class Handler(BaseHTTPRequestHandler):
    # Connections live on, as those of the other side of the comparison do.
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        task = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        x = numpy.linalg.solve(numpy.array(task["a"]), numpy.array(task["b"]))
        answer = json.dumps({"x": x.tolist()}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        """Nothing: a line for each request is no part of the work."""


def main():
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hello = {"baseline": "http", "version": numpy.__version__, "port": server.server_port, "ready": True}
    print(json.dumps(hello), flush=True)
    sys.stdin.read()
    # Requests that still run have nobody to answer.
    os._exit(0)


if __name__ == "__main__":
    main()
