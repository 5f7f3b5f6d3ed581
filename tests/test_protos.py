"""The protos: documented, named as the contract says, and what the generated code was made from."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from creditd.v1 import (
    accounts_pb2,
    catalog_pb2,
    diagnostics_pb2,
    entitlements_pb2,
    ledger_pb2,
    test_clocks_pb2,
)

ROOT = Path(__file__).resolve().parent.parent
BUF = Path(sys.executable).parent / "buf"

RPCS = {
    "creditd.v1.Entitlements": (
        "Check Consume BatchCheck BatchConsume Reserve Commit Release Extend Refund Session GetBalance"
        " WatchBalance AcquireLease SettleLease"
    ),
    "creditd.v1.Catalogs": "ApplyCatalog GetCatalog ListCatalogVersions",
    "creditd.v1.Accounts": (
        "PutAccount GetAccount ListAccounts ArchiveAccount PutSubscription CreateGrant VoidGrant ListGrants"
        " PurchaseBundle RedeemPromotion PutOverride DeleteOverride PutBudget DeleteBudget PutAutoTopUp"
        " ResetUsage GetEntitlements"
    ),
    "creditd.v1.Ledger": "ListEntries ExportEntries GetUsage GetBalanceHistory GetBurnRate VerifyAccount",
    "creditd.v1.TestClocks": "CreateTestClock AdvanceTestClock DeleteTestClock",
    "creditd.v1.Diagnostics": "GetServerStats",
}


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_element_is_documented_and_named_by_the_rules() -> None:
    lint = subprocess.run([BUF, "lint"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (lint.returncode, lint.stdout, lint.stderr) == (0, "", "")


def test_protos_are_formatted() -> None:
    diff = subprocess.run([BUF, "format", "--diff"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (diff.returncode, diff.stdout) == (0, "")


def test_services_and_rpcs_are_those_of_the_contract() -> None:
    modules = (accounts_pb2, catalog_pb2, diagnostics_pb2, entitlements_pb2, ledger_pb2, test_clocks_pb2)
    services = [service for module in modules for service in module.DESCRIPTOR.services_by_name.values()]
    served = {service.full_name: [rpc.name for rpc in service.methods] for service in services}
    assert served == {service: rpcs.split() for service, rpcs in RPCS.items()}


def test_generated_code_is_fresh() -> None:
    assert script("generate_protos").stale_files() == []


def test_stale_and_left_over_generated_files_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = script("generate_protos")
    shutil.copytree(ROOT / "protos", tmp_path / "protos")
    package = tmp_path / "src/creditd/v1"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.setattr(generator, "ROOT", tmp_path)
    generator.regenerate()
    assert generator.stale_files() == []
    (package / "grants_pb2.py").write_text("changed")
    (package / "old_pb2.py").touch()
    assert generator.stale_files() == ["src/creditd/v1/grants_pb2.py", "src/creditd/v1/old_pb2.py"]
    generator.regenerate()
    assert generator.stale_files() == []
    assert (package / "__init__.py").exists()


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_breaking_changes_are_found_before_and_after_the_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)

    def commit() -> None:
        author = ("-c", "user.name=test", "-c", "user.email=test@example.com")
        subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)
        subprocess.run(["git", *author, "commit", "--quiet", "-m", "test"], cwd=tmp_path, check=True)

    check = script("check_breaking").check
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    (tmp_path / "README").touch()
    commit()
    shutil.copytree(ROOT / "protos", tmp_path / "protos")
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    assert check(tmp_path) == 0, "HEAD has no protos"
    commit()
    assert check(tmp_path) == 0, "HEAD~1 has no protos"
    assert "no earlier protos" in capfd.readouterr().out

    clocks = tmp_path / "protos/creditd/v1/test_clocks.proto"
    text = clocks.read_text()
    clocks.write_text(text + "\n// New.\nmessage New {}\n")
    assert check(tmp_path) == 0
    assert "break nothing that HEAD has" in capfd.readouterr().out

    clocks.write_text(text.replace("google.protobuf.Timestamp now = 2;", "string now = 2;"))
    assert check(tmp_path) != 0
    assert "test_clocks.proto" in capfd.readouterr().out
    commit()
    assert check(tmp_path) != 0, "HEAD's protos are the working tree's: HEAD~1 counts"
