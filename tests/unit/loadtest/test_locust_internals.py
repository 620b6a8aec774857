"""What the load test uses of Locust beyond its documented API. An update of Locust that removes it fails here, by name.

Locust documents messages between master and workers, events, runners and users. It documents no way to set the number
of missed heartbeats, to see a lost worker or connection, or to close the connections of a user's client.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from support.loadtest.service import free_port

INTERNALS = {
    "runners.HEARTBEAT_LIVENESS": "the number of missed heartbeats after which a worker is lost",
    "runners.STATE_MISSING": "the state of a lost worker",
    "master.clients[worker.client_id].state": "the workers and their states",
    "len(worker.greenlet)": "the greenlets of a worker, which end when the connection is lost",
    "worker.client.close": "the connection to the master, closed with a linger time so that the last message is sent",
    "user.client.client.clientpool.close": "the connections of a user, closed between windows and after a timeout",
    "response.request_meta['exception']": "the exception of a failed request",
}
PROGRAM = """
import json, sys
from locust import FastHttpUser, runners
from locust.env import Environment

class User(FastHttpUser):
    host = "http://127.0.0.1:9"

port, names = json.loads(sys.argv[1])
environment = Environment(user_classes=[User])
master = environment.create_master_runner("127.0.0.1", port)
worker = Environment(user_classes=[User]).create_worker_runner("127.0.0.1", port)
user = User(environment)
with user.client.get("/", catch_response=True) as response:
    response.success()
missing = []
for name in names:
    try:
        eval(name)
    except (AttributeError, LookupError, TypeError) as error:
        missing.append(f"{name}: {error}")
print(json.dumps(missing))
"""


def test_locust_still_has_the_internals_that_are_used() -> None:
    arguments = json.dumps([free_port(), list(INTERNALS)])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, arguments], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def test_documentation_lists_the_internals() -> None:
    page = Path(__file__).parents[3] / "docs" / "explanation" / "load-test.md"
    text = page.read_text(encoding="utf-8")
    last = ("HEARTBEAT_LIVENESS", "STATE_MISSING", "clients", "greenlet", "client", "clientpool", "request_meta")
    assert len(last) == len(INTERNALS)
    assert [name for name in last if f".{name}`" not in text] == []
