"""The catalog commands against a server that answers as it is told."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status
from typer.testing import CliRunner

from creditd.cli.catalog import app
from creditd.cli.catalog_file import load_catalog, parse_catalog
from creditd.cli.client import ExitCode
from creditd.v1 import catalog_pb2 as pb
from creditd.v1.catalog_pb2_grpc import CatalogsServicer, add_CatalogsServicer_to_server

EXAMPLES = Path(__file__).parents[2] / "examples"
CATALOG = EXAMPLES / "catalog.yaml"


class Server(CatalogsServicer):
    def __init__(self) -> None:
        self.requests: list[pb.ApplyCatalogRequest] = []
        self.refusal: status_pb2.Status | None = None
        self.address = ""

    def ApplyCatalog(
        self, request: pb.ApplyCatalogRequest, context: grpc.ServicerContext
    ) -> pb.ApplyCatalogResponse:
        self.requests.append(request)
        if self.refusal is not None:
            context.abort_with_status(rpc_status.to_status(self.refusal))
        change = pb.Change(kind="feature", key="chat", action="CHANGED", summary="price [of] tokens: 1 → 2")
        return pb.ApplyCatalogResponse(version=7, changes=[change])

    def GetCatalog(
        self, request: pb.GetCatalogRequest, context: grpc.ServicerContext
    ) -> pb.GetCatalogResponse:
        return pb.GetCatalogResponse(catalog=load_catalog(CATALOG).message, version=request.version or 7)


@pytest.fixture
def server() -> Iterator[Server]:
    servicer = Server()
    host = grpc.server(futures.ThreadPoolExecutor(1))
    add_CatalogsServicer_to_server(servicer, host)
    servicer.address = f"127.0.0.1:{host.add_insecure_port('127.0.0.1:0')}"
    host.start()
    yield servicer
    host.stop(None).wait()


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


def test_apply_sends_the_file_and_shows_the_changes(server: Server) -> None:
    code, out, _ = run(
        "apply", CATALOG, "--expected-version", 6, "--note", "why",
        "--effective-at", "2026-01-31T12:00:00+02:00", "--address", server.address,
    )  # fmt: skip

    (request,) = server.requests
    assert code == ExitCode.OK
    assert request.catalog == load_catalog(CATALOG).message
    assert (request.dry_run, request.expected_version, request.note) == (False, 6, "why")
    assert request.effective_at.ToJsonString() == "2026-01-31T10:00:00Z"
    assert out.splitlines()[1].split(maxsplit=3) == ["changed", "feature", "chat", "price [of] tokens: 1 → 2"]
    assert "the catalog is version 7" in out


def test_diff_changes_nothing(server: Server) -> None:
    code, out, _ = run("diff", CATALOG, "--json", "--address", server.address)

    assert code == ExitCode.OK
    assert server.requests[0].dry_run
    assert '"summary": "price [of] tokens: 1 → 2"' in out


def test_violations_are_shown_at_the_files_lines(server: Server) -> None:
    details = [
        error_details_pb2.ErrorInfo(reason="CATALOG_INVALID", domain="creditd"),
        error_details_pb2.BadRequest(
            field_violations=[
                {"field": "catalog.features[0].rates[1].prices[0].credits_micros", "description": "is [bad]"}
            ]
        ),
    ]
    server.refusal = status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message="no")
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        server.refusal.details.append(packed)

    code, _, err = run("apply", CATALOG, "--address", server.address)

    assert code == ExitCode.REFUSED
    assert "INVALID_ARGUMENT (CATALOG_INVALID)" in err
    assert f"{CATALOG}:25:35: catalog.features[0].rates[1].prices[0].credits_micros: is [bad]" in err


def test_a_bad_file_never_reaches_the_server(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("plans: [{kee: x}]")

    code, _, err = run("apply", path, "--address", server.address)

    assert code == ExitCode.USAGE
    assert f"{path}:1:10: plans[0].kee: is not known here; did you mean 'key'?" in err
    assert server.requests == []


def test_no_server_is_told_from_a_refusal() -> None:
    code, _, err = run("show", "--address", "127.0.0.1:1")

    assert code == ExitCode.UNAVAILABLE
    assert "is a server running at 127.0.0.1:1?" in err


def test_what_is_shown_can_be_applied(server: Server) -> None:
    code, out, _ = run("show", "--address", server.address)

    assert code == ExitCode.OK
    assert out.startswith("# catalog version 7")
    assert parse_catalog(out, "x.yaml").message == load_catalog(CATALOG).message


def test_prices_are_merged_into_a_catalog(tmp_path: Path) -> None:
    output, report = tmp_path / "merged.json", tmp_path / "report.csv"

    code, _, err = run(
        "import-prices", EXAMPLES / "model-prices.json", "--feature", "chat", "--credit", "credits",
        "--credit-value", "0.01", "--markup", "1.2", "--merge", CATALOG, "--output", output,
        "--report", report,
    )  # fmt: skip

    merged, before = load_catalog(output).message, load_catalog(CATALOG).message
    assert code == ExitCode.OK
    assert "rates" in err
    assert "off_peak_pricing" in report.read_text()
    assert merged.features[0].name == before.features[0].name
    assert {rate.match["model"] for rate in merged.features[0].rates} >= {"atlas-large", "atlas-mini"}
    assert merged.plans == before.plans
    assert merged.features[1:] == before.features[1:]
