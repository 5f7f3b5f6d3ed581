"""The clients' script, and what holds for every client: fresh docs, licences, lock files without a machine's traces."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
PRESENT = sorted(path.parent.name for path in (ROOT / "clients").glob("*/Makefile"))

GO = "--- PASS: TestA (0.00s)\n--- PASS: TestB (0.10s)\nPASS\nok  \texample.com/x\t0.1s\n"
NODE = "\u2714 a check\n\u2139 tests 3\n\u2139 pass 3\n\u2139 fail 0\n\u2139 skipped {skipped}\n"
MAVEN = (
    "[INFO] Tests run: 4, Failures: 0, Errors: 0, Skipped: 0, Time elapsed: 1.2 s -- in io.creditd.TourTest\n"
    "[INFO] Tests run: 2, Failures: 0, Errors: 0, Skipped: 0, Time elapsed: 0.2 s -- in io.creditd.ErrorsTest\n"
    "[\x1b[1;34mINFO\x1b[m] \x1b[1;32mTests run: 6, Failures: 0, Errors: 0, Skipped: {skipped}\x1b[m\n"
)
CARGO = (
    "test result: ok. 2 passed; 0 failed; {skipped} ignored; 0 measured; 0 filtered out; finished in 0.1s\n"
    "test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s\n"
)
PYTEST = "=================== 14 passed in 1.41s ===================\n"


@pytest.fixture
def clients(monkeypatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("clients_script", ROOT / "scripts/clients.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # where its dataclasses look for it
    spec.loader.exec_module(module)
    return module


def judged(clients: ModuleType, language: str, output: str, code: int = 0) -> tuple[str, int]:
    outcome = clients.outcome(clients.LANGUAGES[language], "asgi", code, output, 1.0)
    return outcome.failure, outcome.passed


@pytest.mark.parametrize(
    ("language", "output", "passed"),
    [
        ("go", GO, 2),
        ("typescript", NODE.format(skipped=0), 3),
        ("java", MAVEN.format(skipped=0), 6),
        ("rust", CARGO.format(skipped=0), 7),
        ("python", PYTEST, 14),
    ],
)
def test_each_runners_summary_is_understood(clients, language, output, passed):
    assert judged(clients, language, output) == ("", passed)
    assert judged(clients, language, output, code=2) == ("exit status 2", passed)
    assert judged(clients, language, "nothing of a test") == ("ran no test", 0)


@pytest.mark.parametrize(
    ("language", "output"),
    [
        ("go", GO + "--- SKIP: TestC (0.00s)\n"),
        ("typescript", NODE.format(skipped=1)),
        ("java", MAVEN.format(skipped=1)),
        ("rust", CARGO.format(skipped=1)),
        ("python", "======= 13 passed, 1 skipped in 1.41s ======="),
    ],
)
def test_skipped_tests_are_no_success(clients, language, output):
    assert judged(clients, language, output)[0] == "1 skipped"


def test_the_table_has_a_row_for_each_outcome_with_the_runners_own_words(clients):
    done = clients.outcome(clients.LANGUAGES["python"], "grpcio", 0, PYTEST, 12.34)
    lost = clients.outcome(clients.LANGUAGES["go"], "asgi", 1, "FAIL\texample.com/x [build failed]\n", 0.5)
    head, first, second = clients.table([done, lost]).splitlines()
    assert head.split()[:4] == ["language", "transport", "result", "passed"]
    assert first.split()[:5] == ["python", "grpcio", "ok", "14", "12.3"]
    assert "14 passed in 1.41s" in first
    assert second.startswith("go        asgi       exit status 1")
    assert "[build failed]" in second


def test_an_unknown_language_is_told_with_those_that_there_are(clients):
    with pytest.raises(SystemExit, match="no client for cobol; there are go, typescript, java, rust, python"):
        clients.chosen(["cobol"])


def test_a_missing_toolchain_is_told_with_what_to_install(clients, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit) as ended:
        clients.chosen(["go"])
    told = str(ended.value)
    assert "clients/go needs go, which is not on the PATH: install Go 1.26 or later" in told
    assert "LANGUAGES=" in told


def test_a_missing_client_is_told_by_its_folder(clients, monkeypatch, tmp_path):
    monkeypatch.setattr(clients, "CLIENTS", tmp_path)
    with pytest.raises(SystemExit, match="clients/python is missing"):
        clients.chosen(["python"])
    monkeypatch.setattr(clients, "ALL_REQUIRED", True)
    with pytest.raises(SystemExit, match="clients/rust is missing"):
        clients.chosen([])


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_tests_run_against_a_server_of_each_transport_and_failures_are_counted(
    clients, monkeypatch, tmp_path, capfd
):
    asks = f"{sys.executable} -m creditd balance demo --address $(CREDITD_ADDRESS)"
    for language, then in (("python", "echo '=== 1 passed in 0.1s ==='"), ("go", "false")):
        (tmp_path / language).mkdir()
        (tmp_path / language / "Makefile").write_text(f"test:\n\t@{asks}\n\t@{then}\n")
    monkeypatch.setattr(clients, "CLIENTS", tmp_path)
    monkeypatch.setenv("PATH", str(fake_toolchain(tmp_path, "go")), prepend=os.pathsep)
    assert clients.main(["test", "python", "go"]) == 1
    told = capfd.readouterr().out
    assert told.count("6,000") >= 4, "each asked a server of its own for the demo's balance"
    rows = [line.split()[:3] for line in told.partition("== summary")[2].splitlines()[2:6]]
    assert rows == [
        ["python", "asgi", "ok"],
        ["go", "asgi", "exit"],
        ["python", "grpcio", "ok"],
        ["go", "grpcio", "exit"],
    ]
    assert "clients: 2 passed, 2 failed" in told


def fake_toolchain(folder: Path, name: str) -> Path:
    """A folder for the PATH with a program of that name, which is never run."""
    (folder / "bin").mkdir()
    (folder / "bin" / name).write_text("#!/bin/false\n")
    (folder / "bin" / name).chmod(0o755)
    return folder / "bin"


@pytest.mark.parametrize("first", ["creditd", "creditd_client"])
def test_the_python_client_and_the_service_live_in_one_process(first):
    second = {"creditd": "creditd_client", "creditd_client": "creditd"}[first]
    names = [path.stem for path in (ROOT / "src/creditd/v1").glob("*_pb2*.py")]
    assert len(names) == 14
    program = "import importlib\n" + "".join(
        f"importlib.import_module('{package}.v1.{name}')\n" for package in (first, second) for name in names
    )
    program += (
        "from creditd.v1.grants_pb2 import Grant as Served\n"
        "from creditd_client.v1.grants_pb2 import Grant as Called\n"
        "sent = Called(id='g', amount_micros=8_999_999_999_999_999)\n"
        "assert Served.FromString(sent.SerializeToString()).amount_micros == 8_999_999_999_999_999\n"
    )
    path = os.pathsep.join(map(str, (ROOT / "src", ROOT / "clients/python/src")))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("language", PRESENT)
def test_the_first_check_of_the_docs_is_the_one_that_is_tested(language):
    readme = (ROOT / "clients" / language / "README.md").read_text()
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    shown = next(code for kind, code in blocks if kind == language)
    examples = (ROOT / "clients" / language).glob("**/example*/**/*")
    sources = [
        path.read_text()
        for path in examples
        if path.suffix in {".go", ".ts", ".java", ".rs", ".py"} and "node_modules" not in path.parts
    ]
    assert any(shown in source for source in sources), f"the first {language} block is no example's text"
    assert f"```{language}\n{shown}```" in (ROOT / "docs/clients.md").read_text()


@pytest.mark.parametrize("language", PRESENT)
def test_each_client_has_the_licence(language):
    assert (ROOT / "clients" / language / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_lock_files_name_no_registry_but_the_public_ones():
    lock = json.loads((ROOT / "clients/typescript/package-lock.json").read_text())
    resolved = [entry.get("resolved", "") for entry in lock["packages"].values()]
    assert all(url == "" or url.startswith("https://registry.npmjs.org/") for url in resolved)
    assert all("integrity" in entry for name, entry in lock["packages"].items() if name)
