"""Metadata and the other request headers, between HTTP's form and gRPC's."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

Header: TypeAlias = tuple[bytes, bytes]
MetadatumLike: TypeAlias = tuple[str, str | bytes]

# Headers that carry the protocol itself and are not metadata of the caller's.
_RESERVED = frozenset(
    (
        b"accept-encoding",
        b"content-length",
        b"content-type",
        b"grpc-accept-encoding",
        b"grpc-encoding",
        b"grpc-message",
        b"grpc-status",
        b"grpc-timeout",
        b"host",
        b"te",
    )
)
_KEY = re.compile(r"[0-9a-z_.-]+")
_TEXT = re.compile(r"[\x20-\x7e]*")
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNIT_SECONDS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}


class Metadatum(NamedTuple):
    """One piece of metadata; the value is bytes when the key ends in ``-bin``."""

    key: str
    value: str | bytes


def decode_metadata(headers: Iterable[Header]) -> tuple[Metadatum, ...]:
    """Return the caller's metadata in order, repeated keys included.

    Raises:
        ValueError: a ``-bin`` value is not base64.
    """
    metadata = []
    for name, value in headers:
        if name in _RESERVED or name.startswith(b":"):
            continue
        key = name.decode("ascii")
        if not name.endswith(b"-bin"):
            metadata.append(Metadatum(key, value.decode("latin-1")))
            continue
        # A proxy may have joined several values of one key with commas; base64 has none.
        metadata.extend(Metadatum(key, _from_base64(part.strip())) for part in value.split(b","))
    return tuple(metadata)


def encode_metadata(metadata: Iterable[MetadatumLike]) -> list[Header]:
    """Return metadata as headers.

    Raises:
        ValueError: a key or a value cannot be sent as metadata.
    """
    headers = []
    for key, value in metadata:
        if not _KEY.fullmatch(key):
            raise ValueError(
                f"metadata key {key!r} may have lower-case letters, digits, '_', '-' and '.' only"
            )
        if key.encode() in _RESERVED:
            raise ValueError(f"metadata key {key!r} belongs to the protocol")
        if key.endswith("-bin"):
            if isinstance(value, str):
                value = value.encode()  # noqa: PLW2901 - grpcio takes text for a binary key, too
            headers.append((key.encode(), b64encode(value).rstrip(b"=")))
            continue
        if isinstance(value, bytes):
            value = value.decode("latin-1")  # noqa: PLW2901 - and bytes for a text key
        if not _TEXT.fullmatch(value):
            raise ValueError(
                f"metadata {key!r}: a value that is not printable ASCII needs a key ending in '-bin'"
            )
        headers.append((key.encode(), value.encode()))
    return headers


def parse_timeout(value: bytes) -> float:
    """Return the seconds that a ``grpc-timeout`` header grants.

    Raises:
        ValueError: the header is malformed.
    """
    match = _TIMEOUT.fullmatch(value)
    if match is None:
        raise ValueError("malformed grpc-timeout")
    return int(match[1]) * _UNIT_SECONDS[match[2]]


def _from_base64(value: bytes) -> bytes:
    try:
        return b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except Base64Error as error:
        raise ValueError("malformed base64 in binary metadata") from error
