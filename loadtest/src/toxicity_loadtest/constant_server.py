"""A classification service with a constant answer: `python -m toxicity_loadtest.constant_server [DELAY]`.

The generator's maximum rate is measured against it. It answers after DELAY seconds, by default 0, listens on 127.0.0.1
and prints its port. It ends when its standard input is closed, so that no process remains.
"""

from __future__ import annotations

import asyncio
import json
import sys

BODY = json.dumps({"model": "constant", "threshold": 0.5, "results": [{"score": 0.25, "toxic": False}]}).encode()
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
HEAD_END, LENGTH = b"\r\n\r\n", b"content-length:"


def request_size(data: bytes | bytearray) -> int | None:
    """Return the size of the first complete request in `data`, in bytes; None while it is incomplete."""
    end = data.find(HEAD_END)
    if end < 0:
        return None
    head = bytes(data[:end]).lower()
    found = head.find(LENGTH)
    body = 0 if found < 0 else int(head[found + len(LENGTH) :].split(b"\r\n", 1)[0])
    size = end + len(HEAD_END) + body
    return size if len(data) >= size else None


class ConstantAnswer(asyncio.Protocol):
    """One connection, which gives the same answer to every request after `delay` seconds."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._data = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (size := request_size(self._data)) is not None:
            del self._data[:size]
            if self._delay:
                asyncio.get_running_loop().call_later(self._delay, self._transport.write, ANSWER)
            else:
                self._transport.write(ANSWER)


async def serve(delay: float) -> None:
    """Serve until standard input is closed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: ConstantAnswer(delay), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1]) if len(sys.argv) > 1 else 0.0))
