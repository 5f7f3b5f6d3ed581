"""Who is calling, from an ASGI scope."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# One attribute of an RFC 4514 name: a type, and a value in which a backslash escapes what follows.
_COMMON_NAME = re.compile(r"(?:^|(?<!\\)[,+])\s*CN=((?:\\.|[^,+\\])*)", re.IGNORECASE)
_ESCAPED_HEX = re.compile(rb"\\([0-9a-fA-F]{2})")


def peer_address(scope: Mapping[str, Any]) -> str:
    """Return the peer's address as gRPC writes it."""
    client = scope.get("client")
    if client is None:
        return "unix:"
    host, port = client
    return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"


def auth_context(scope: Mapping[str, Any]) -> dict[str, list[bytes]]:
    """Return what the ASGI TLS extension tells, under the names that gRPC uses."""
    tls = scope.get("extensions", {}).get("tls")
    if tls is None:
        return {}
    properties = {"transport_security_type": [b"ssl"]}
    chain = tls.get("client_cert_chain")
    if chain:
        properties["x509_pem_cert"] = [chain[0].encode()]
        properties["x509_pem_cert_chain"] = ["".join(chain).encode()]
        subject = tls.get("client_cert_name") or ""
        properties["x509_subject"] = [subject.encode()]
        names = [_unescape(name) for name in _COMMON_NAME.findall(subject)]
        if names:
            properties["x509_common_name"] = names
    return properties


def _unescape(value: str) -> bytes:
    raw = _ESCAPED_HEX.sub(lambda match: bytes.fromhex(match[1].decode()), value.encode())
    return re.sub(rb"\\(.)", rb"\1", raw)
