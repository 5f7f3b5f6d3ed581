"""Statuses: how a call ends, as a failure inside the adapter and as headers on the wire."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote

import grpc

from .metadata import Header, MetadatumLike, encode_metadata

# Everything printable in ASCII but '%', which starts an escape (gRPC over HTTP/2, "Percent-Encoded").
_UNESCAPED = "".join(chr(c) for c in range(0x20, 0x7F) if chr(c) != "%")
_STATUS_HEADER = {code: (b"grpc-status", b"%d" % code.value[0]) for code in grpc.StatusCode}
_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}


class RpcFailure(Exception):
    """Ends a call with a status and a text that the caller may see."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(code, details)
        self.code = code
        self.details = details


def as_status_code(code: grpc.StatusCode | int) -> grpc.StatusCode:
    """Take a status code as the enumeration or its number, like grpcio; unknown numbers become UNKNOWN."""
    if isinstance(code, grpc.StatusCode):
        return code
    return _BY_NUMBER.get(code, grpc.StatusCode.UNKNOWN)


def status_headers(code: grpc.StatusCode, details: str, metadata: Iterable[MetadatumLike]) -> list[Header]:
    """Return what goes into the trailers, or into the headers of an answer that has nothing else."""
    headers = [_STATUS_HEADER[code]]
    if details:
        headers.append((b"grpc-message", quote(details, safe=_UNESCAPED).encode("ascii")))
    if metadata:
        headers += encode_metadata(metadata)
    return headers
