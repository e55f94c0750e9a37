#!/usr/bin/env python
"""The process that runs a parity model of an artefact, over plain HTTP. It needs torch, and nothing of parity.

python parity_worker.py mine --port 8001

A parity query is sent as the bytes of its float32 numbers, by POST, and the parity prediction comes back as such.
"""

import argparse
import ctypes
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import torch


class Worker(BaseHTTPRequestHandler):
    """Answers one parity query (*Q) with the parity model's output (*P')."""

    network: torch.nn.Module
    query_shape: tuple[int, ...]

    def do_POST(self) -> None:
        body = bytearray(self.rfile.read(int(self.headers["Content-Length"])))
        query = torch.frombuffer(body, dtype=torch.float32).view(1, *self.query_shape)
        with torch.no_grad():
            output = self.network(query).contiguous()
        self.send_response(200)
        self.send_header("Content-Length", str(output.nbytes))
        self.end_headers()
        self.wfile.write(ctypes.string_at(output.data_ptr(), output.nbytes))

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artefact", type=Path, help="folder of the artefact")
    parser.add_argument("--number", type=int, default=0, metavar="J", help="which parity model (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8001, help="port; 0 takes a free one (default: %(default)s)")
    args = parser.parse_args()
    manifest = json.loads((args.artefact / "manifest.json").read_text())
    name = manifest["programs"]["parity"][args.number]
    Worker.network = torch.export.load(args.artefact / f"{name}.pt2").module()
    Worker.query_shape = tuple(manifest["query_shape"])
    server = ThreadingHTTPServer(("127.0.0.1", args.port), Worker)
    print(f"parity model {args.number} at http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
