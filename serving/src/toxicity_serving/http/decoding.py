"""Decode the content encoding of request bodies, within a limit on the decoded size."""

from __future__ import annotations

import zlib
from typing import Protocol

from toxicity_serving.http.errors import Refusal

ENCODINGS = "gzip"
"""The content encodings of a request, for the response header Accept-Encoding (RFC 9110, 15.5.16)."""

MAX_MEMBERS = 64
"""Maximum number of gzip members in a body. Empty members cost CPU time and yield no data."""

_GZIP = 16 + zlib.MAX_WBITS


class DecodingError(ValueError):
    """The body is not in the encoding that its header names."""


class Decoder(Protocol):
    """Decodes a body chunk by chunk."""

    def decode(self, chunk: bytes, limit: int) -> bytes:
        """Return the decoded data of `chunk`. More than `limit` bytes mean that there is more.

        Raises DecodingError.
        """
        ...

    def finish(self) -> None:
        """Check that the body is complete. Raises DecodingError."""
        ...


def decoder_for(encoding: str) -> Decoder | Refusal:
    """Return the decoder for the value of Content-Encoding, or 415 for an unknown one."""
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return _Identity()
    if name in ("gzip", "x-gzip"):
        return _Gzip()
    message = "content-encoding: expected gzip or no encoding; send the body uncompressed or as one gzip stream"
    return Refusal(415, message, headers={"Accept-Encoding": ENCODINGS})


class _Identity:
    def decode(self, chunk: bytes, limit: int) -> bytes:
        return chunk

    def finish(self) -> None:
        pass


class _Gzip:
    """Decodes the members of a gzip stream one after the other. It never produces more than one byte beyond a limit."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP)
        self._members = 1
        self._begun = False

    def decode(self, chunk: bytes, limit: int) -> bytes:
        decoded = bytearray()
        while chunk:
            if self._member.eof:
                self._next_member()
            self._begun = True
            try:
                decoded += self._member.decompress(chunk, limit - len(decoded) + 1)
            except zlib.error as error:
                raise DecodingError("content-encoding: the body is not gzip data") from error
            if len(decoded) > limit:
                break
            chunk = self._member.unused_data
        return bytes(decoded)

    def _next_member(self) -> None:
        self._members += 1
        if self._members > MAX_MEMBERS:
            raise DecodingError(f"content-encoding: the gzip data have more than {MAX_MEMBERS} members")
        self._member = zlib.decompressobj(_GZIP)

    def finish(self) -> None:
        if self._begun and not self._member.eof:
            raise DecodingError("content-encoding: the gzip data end early")
