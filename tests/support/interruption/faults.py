"""Injects faults between the Kubernetes client and the API server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from urllib3 import HTTPResponse
from urllib3.exceptions import ReadTimeoutError

from support.interruption.memory_api import failure, http_answer

Kind = Literal["409", "429", "500", "504", "timeout", "killed", "meanwhile"]
KINDS: tuple[Kind, ...] = ("409", "429", "500", "504", "timeout", "killed", "meanwhile")
"""Answers, none in time, the end of the process; and no failure, but others who act between two requests."""


class Killed(BaseException):
    """The operator process was killed. No code of the operator may catch this."""


@dataclass(frozen=True)
class Fault:
    """A fault of request number `index` of a pass, before it takes effect, or after it if `lost_answer` is set."""

    index: int
    kind: Kind
    lost_answer: bool = False


@dataclass(frozen=True)
class Write:
    """A write that took effect. `created`: the object did not exist before."""

    method: str
    path: str
    body: Any
    created: bool


class Line:
    """The operator's connection. It forwards requests, injects the fault and records every write that took effect."""

    def __init__(self, pool: Any, on_write: Callable[[Write], None], meanwhile: Callable[[], None]) -> None:
        self._pool, self._on_write, self._meanwhile = pool, on_write, meanwhile
        self._fault: Fault | None = None
        self._count = 0

    @contextmanager
    def failing(self, fault: Fault | None) -> Iterator[None]:
        """Count requests from 0 and inject the fault."""
        self._fault, self._count = fault, 0
        try:
            yield
        finally:
            self._fault = None

    def request(
        self, method: str, url: str, body: str | None = None, headers: Mapping[str, str] | None = None, **rest: Any
    ) -> HTTPResponse:
        fault = self._fault if self._fault and self._fault.index == self._count else None
        self._count += 1
        if fault and fault.kind == "meanwhile":
            self._fault = fault = None
            self._meanwhile()
        if fault and not fault.lost_answer:
            return self._fail(fault, url)
        answer: HTTPResponse = self._pool.request(method, url, body=body, headers=headers, **rest)
        if method != "GET" and answer.status < 400:
            path = url.partition("?")[0].partition("://")[2]
            content = json.loads(body) if body else None
            self._on_write(Write(method, path[path.index("/") :], content, answer.status == 201))
        return self._fail(fault, url) if fault else answer

    def _fail(self, fault: Fault, url: str) -> HTTPResponse:
        if fault.kind == "killed":
            raise Killed
        if fault.kind == "timeout":
            raise ReadTimeoutError(self._pool, url, "Read timed out.")
        return http_answer(int(fault.kind), failure(f"made to fail with {fault.kind}", "Failed"))
