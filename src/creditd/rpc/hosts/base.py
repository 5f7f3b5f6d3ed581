"""What both hosts share: the interface, the options, and the check of the address."""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from grpc import aio

DEFAULT_MAX_MESSAGE_BYTES = 4 * 1024 * 1024
UNIX = "unix:"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: the server's certificate chain and key, and the CA that must have signed its clients'."""

    cert: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True)
class HostOptions:
    """The arguments of `make_host`."""

    listen: str
    interceptors: tuple[aio.ServerInterceptor, ...]
    tls: TlsFiles | None
    max_message_bytes: int
    max_send_bytes: int | None
    max_concurrent_streams: int
    reuse_port: bool

    def __post_init__(self) -> None:
        if self.tls is not None and self.listen.startswith(UNIX):
            raise ValueError("TLS is for TCP addresses; a Unix socket is guarded by its file's permissions")
        if self.reuse_port and self.listen.startswith(UNIX):
            raise ValueError("a Unix socket cannot be shared by reuse_port")
        if not self.listen.startswith(UNIX):
            split_address(self.listen)


class Host(Protocol):
    """A gRPC server in this process, on the running event loop."""

    @property
    def registrar(self) -> Any:
        """What to pass as ``server`` to generated ``add_XServicer_to_server`` functions, before `start`."""

    async def start(self) -> str:
        """Listen and serve; return the address bound, with the real port.

        Raises:
            OSError: the address is in use or cannot be bound.
        """

    async def stop(self, grace_s: float) -> None:
        """Take no new calls, let those in flight finish within the grace, then cancel them.

        Returns when the last handler has ended. A second call does nothing.
        """


def split_address(listen: str) -> tuple[str, int]:
    """Return host and port of ``host:port`` or ``[v6]:port``.

    Raises:
        ValueError: it is neither.
    """
    host, colon, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isdecimal() and int(port) <= 65535):
        raise ValueError(f"{listen!r} is neither host:port nor unix:/path")
    return host, int(port)


def with_port(listen: str, port: int) -> str:
    """Return the address with this port."""
    return f"{listen.rpartition(':')[0]}:{port}"


def open_socket(options: HostOptions) -> socket.socket:
    """Bind the address, without listening yet.

    Servers report a taken address each in their own way or, for a Unix socket, take it from
    the server that is alive on it; so the address is tried here.

    Raises:
        OSError: as the operating system says it.
    """
    try:
        if options.listen.startswith(UNIX):
            return _open_unix(options.listen.removeprefix(UNIX))
        return _open_tcp(*split_address(options.listen), reuse_port=options.reuse_port)
    except socket.gaierror as error:
        raise OSError(errno.EADDRNOTAVAIL, f"cannot listen on {options.listen}: {error.strerror}") from error
    except OSError as error:
        number = error.errno or 0
        raise OSError(number, f"cannot listen on {options.listen}: {os.strerror(number)}") from error


def _open_tcp(host: str, port: int, *, reuse_port: bool) -> socket.socket:
    flags = socket.AI_PASSIVE
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)[0]
    opened = socket.socket(family, kind)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6 and socket.has_dualstack_ipv6():
            opened.setsockopt(
                socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0
            )  # [::] is every address, as for grpcio
        opened.bind(address)
    except BaseException:
        opened.close()
        raise
    return opened


def _open_unix(path: str) -> socket.socket:
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            opened.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()  # the leftover of a dead process
        except FileNotFoundError:
            pass
        else:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        opened.bind(path)
    except BaseException:
        opened.close()
        raise
    return opened
