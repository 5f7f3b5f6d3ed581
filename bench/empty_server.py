"""A server with one empty unary RPC, on either host: what a call costs before it does anything.

Run: python -m bench.empty_server asgi|grpcio
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Any

import uvloop

from creditd.rpc.hosts import make_host
from creditd.v1 import entitlements_pb2 as pb
from creditd.v1.entitlements_pb2_grpc import EntitlementsServicer, add_EntitlementsServicer_to_server


class Empty(EntitlementsServicer):
    async def Check(self, request: pb.CheckRequest, context: Any) -> pb.CheckResponse:
        return pb.CheckResponse(allowed=True)


async def main(transport: Any) -> None:
    host = make_host(transport, "127.0.0.1:0")
    add_EntitlementsServicer_to_server(Empty(), host.registrar)  # type: ignore[abstract]
    print("serving gRPC on", await host.start(), file=sys.stderr, flush=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await host.stop(1)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(sys.argv[1]))
