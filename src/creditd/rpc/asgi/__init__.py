"""gRPC over ASGI: serves unmodified generated gRPC servicers as an ASGI 3 application."""

from .app import DEFAULT_MAX_RECEIVE_BYTES, UNLIMITED, GrpcApp, HandlerCallDetails
from .context import Context
from .status import RpcFailure

__all__ = ["DEFAULT_MAX_RECEIVE_BYTES", "UNLIMITED", "Context", "GrpcApp", "HandlerCallDetails", "RpcFailure"]
