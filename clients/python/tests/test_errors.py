"""Errors taken apart, and the package beside others."""

from __future__ import annotations

import importlib
import pickle
import pkgutil
import sys
from concurrent import futures
from datetime import timedelta

import creditd_client.v1
import grpc
import pytest
from creditd_client import ErrorDetails, Violation, error_details
from creditd_client.v1.entitlements_pb2 import CheckRequest
from creditd_client.v1.entitlements_pb2_grpc import (
    EntitlementsServicer,
    EntitlementsStub,
    add_EntitlementsServicer_to_server,
)
from creditd_client.v1.grants_pb2 import Grant
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status


def call(status: status_pb2.Status) -> grpc.RpcError:
    """The error of a call that a server of this process answers with `status`."""

    class Servicer(EntitlementsServicer):
        def Check(self, request: CheckRequest, context: grpc.ServicerContext) -> None:  # type: ignore[override]
            context.abort_with_status(rpc_status.to_status(status))

    server = grpc.server(futures.ThreadPoolExecutor(1))
    add_EntitlementsServicer_to_server(Servicer(), server)  # type: ignore[abstract]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.RpcError) as caught:
            EntitlementsStub(channel).Check(CheckRequest(), timeout=10)
    finally:
        server.stop(None).wait()
    return caught.value


def test_an_error_is_taken_apart_into_reason_violations_and_delay() -> None:
    status = status_pb2.Status(code=3, message="2 faults")
    status.details.add().Pack(
        error_details_pb2.ErrorInfo(reason="INVALID_ARGUMENT", domain="creditd", metadata={"id": "7"})
    )
    request = error_details_pb2.BadRequest()
    request.field_violations.add(field="account", description="is empty")
    request.field_violations.add(field="usage", description="is negative")
    status.details.add().Pack(request)
    status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=Duration(seconds=1, nanos=500_000_000)))
    assert error_details(call(status)) == ErrorDetails(
        code=grpc.StatusCode.INVALID_ARGUMENT,
        message="2 faults",
        reason="INVALID_ARGUMENT",
        domain="creditd",
        metadata={"id": "7"},
        violations=(Violation("account", "is empty"), Violation("usage", "is negative")),
        retry_delay=timedelta(seconds=1.5),
    )


def test_an_error_without_details_has_its_code_and_no_reason() -> None:
    details = error_details(call(status_pb2.Status(code=14, message="away")))
    assert details == ErrorDetails(code=grpc.StatusCode.UNAVAILABLE, message="away")


def test_what_is_no_error_of_a_call_is_refused() -> None:
    with pytest.raises(TypeError, match="RpcError is no error of a call"):
        error_details(grpc.RpcError())


def test_messages_can_be_pickled() -> None:
    grant = Grant(id="g", amount_micros=8_999_999_999_999_999)
    assert pickle.loads(pickle.dumps(grant)) == grant
    assert Grant.__module__ == "creditd_client.v1.grants_pb2"


def test_every_module_is_importable_and_none_needs_the_services_own_package() -> None:
    modules = [name for _, name, _ in pkgutil.iter_modules(creditd_client.v1.__path__)]
    # Two for each file of the API: its messages and its stubs.
    assert len(modules) == 14
    for name in modules:
        importlib.import_module(f"creditd_client.v1.{name}")
    assert "creditd" not in sys.modules
