"""Serves the interop test service until interrupted: `python -m tests.interop.serve asgi 127.0.0.1:50070`."""

from __future__ import annotations

import asyncio
import contextlib
import sys

import uvloop
from tests.interop.gen import interop_pb2_grpc
from tests.interop.service import TestService

from creditd.rpc.hosts import make_host


async def main(transport: str, listen: str) -> None:
    host = make_host(transport, listen)
    interop_pb2_grpc.add_TestServiceServicer_to_server(TestService(), host.registrar)
    print(await host.start(), flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        await host.stop(1)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(main(*sys.argv[1:]))
