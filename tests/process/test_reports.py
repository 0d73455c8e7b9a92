"""Failures reported to Sentry from a runner: which are, and how the address gets there."""

from __future__ import annotations

import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytest.importorskip("sentry_sdk")

pytestmark = pytest.mark.slow


class Sentry(ThreadingHTTPServer):
    """A server on loopback that keeps the events it is sent."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Taker)
        self.events = []
        self.dsn = f"http://key@127.0.0.1:{self.server_address[1]}/1"


class Taker(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        lines = body.splitlines()
        self.server.events += [json.loads(line) for line in lines if b'"exception"' in line]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *words):
        """Say nothing."""


@pytest.fixture
def sentry():
    server = Sentry()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_failures_and_loud_aborts_are_reported_silent_aborts_and_faults_are_not(crew, sentry):
    """By the runner, with the job's id; and the address, a secret, stands in no command line."""
    crew.write_app(
        "@handlers\ndef fails(job): raise ZeroDivisionError('no rows')\n"
        "@handlers\ndef aborts(job): overseer.abort('given up')\n"
        "@handlers\ndef silent(job): overseer.abort_silent('given up in silence')\n"
        "@handlers\ndef faults(job):\n    if job.attempt == 1: overseer.fault('not now', delay=0.05)\n"
        "@handlers\ndef looks(job):\n    note('looked', os.getpid(), os.getppid())\n    await_file('go')\n"
    )
    crew.submit({"fails": [], "aborts": [], "silent": [], "faults": [], "looks": []})
    crew.start(1, settings={"sentry_dsn": sentry.dsn})
    looked = crew.wait_note("looked")
    for pid in looked.words[1:]:
        assert b"key@" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    crew.allow("go")
    ends = {"fails": "failed", "aborts": "aborted", "silent": "aborted", "faults": "finished", "looks": "finished"}
    for name, status in ends.items():
        crew.wait_for(name, status)

    told = sorted((event["tags"]["job"], event["exception"]["values"][-1]["value"]) for event in sentry.events)
    assert told == [("r/aborts", "given up"), ("r/fails", "no rows")]
