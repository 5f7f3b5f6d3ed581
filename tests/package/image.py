"""A Dockerfile without an engine: its own instructions, carried out in order in clean roots.

The instructions are read by the official parser. RUN lines run as they are written, chrooted, in mount and process
namespaces of their own; COPY takes from the context what .dockerignore leaves, or from another stage's root. What is
not known here is refused, so that no instruction goes untested.

The base image is stood in for by `bases.py`. Not shown here is what only an engine does: layers, the cache,
other platforms.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import dockerfile
from docker.utils.build import exclude_paths

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass
class Stage:
    """A root and the configuration that the instructions so far have made."""

    root: Path
    arguments: dict[str, str]
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": SYSTEM_PATH})
    labels: dict[str, str] = field(default_factory=dict)
    shell: Sequence[str] = ("/bin/sh", "-c")
    workdir: str = "/"
    user: str = "0:0"
    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()
    healthcheck: Sequence[str] = ()
    healthcheck_options: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = "SIGTERM"
    ports: list[str] = field(default_factory=list)

    def expand(self, text: str) -> str:
        """A word of an instruction, without its quotes and with its variables."""
        known = self.arguments | self.environment
        word = re.sub(r'^"(.*)"$', r"\1", text)
        return re.sub(r"\$\{(\w+)\}", lambda found: known[found[1]], word)


@dataclass(frozen=True)
class Context:
    """The directory that is sent to the build, and what the machine lends its RUN lines: a way to the package index."""

    directory: Path
    network: Mapping[str, str]
    certificates: Path | None

    def files(self) -> list[Path]:
        """What .dockerignore leaves of the directory, as docker's own library for Python reads it."""
        lines = (self.directory / ".dockerignore").read_text().splitlines()
        patterns = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        names = exclude_paths(str(self.directory), patterns)
        return sorted(Path(name) for name in names if (self.directory / name).is_file())


def build(
    text: str,
    context: Context,
    make_root: Callable[[str], Path],
    arguments: Mapping[str, str],
    report: Callable[[str], None],
) -> Stage:
    """Carry out a Dockerfile.

    Args:
        text: the Dockerfile.
        context: what COPY takes from.
        make_root: makes a new root that stands for a base image.
        arguments: build arguments, as of --build-arg.
        report: is told each instruction before it is carried out.
    """
    stages: dict[str, Stage] = {}
    stage: Stage | None = None
    given: dict[str, str] = {}  # ARGs before the first FROM
    for line in dockerfile.parse_string(text):
        report(line.original)
        name = line.cmd.upper()
        if name == "ARG":
            key, _, default = line.value[0].partition("=")
            (given if stage is None else stage.arguments)[key] = arguments.get(key, default)
        elif name == "FROM":
            base = Stage(Path(), given).expand(line.value[0])
            stage = Stage(make_root(base), {})
            stages[line.value[2] if len(line.value) == 3 else str(len(stages))] = stage
        else:
            assert stage is not None
            _STEPS[name](stage, line, context, stages)  # KeyError: an instruction that is not known here
    assert stage is not None
    return stage


def _copy(stage: Stage, line: dockerfile.Command, context: Context, stages: Mapping[str, Stage]) -> None:
    *sources, target = map(stage.expand, line.value)
    place = stage.root / target.lstrip("/") if target.startswith("/") else _inside(stage, target)
    if line.flags:
        (flag,) = line.flags
        assert flag.startswith("--from="), flag
        (source,) = sources
        shutil.copytree(stages[flag.removeprefix("--from=")].root / source.lstrip("/"), place, symlinks=True)
        return
    files = context.files()
    for source in sources:
        wanted = [path for path in files if path == Path(source) or Path(source) in path.parents]
        assert wanted, f"COPY {source}: not in the context"
        for path in wanted:
            is_file = path == Path(source)
            assert target.endswith("/") or not is_file, "a file under a new name is not known here"
            to = place / path.name if is_file else place / path.relative_to(source)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(context.directory / path, to)


def _run(stage: Stage, line: dockerfile.Command, context: Context, stages: Mapping[str, Stage]) -> None:
    assert stage.user == "0:0", "a RUN as another user is not known here"
    words = line.value if line.json else (*stage.shell, line.value[0])
    lent = {"/etc/resolv.conf": Path("/etc/resolv.conf"), "/etc/hosts": Path("/etc/hosts")}
    if context.certificates:
        lent["/etc/ssl/certs/ca-certificates.crt"] = context.certificates
    # As an engine lends them: mounted while the line runs, and no part of the root.
    mounts = []
    for inside, outside in lent.items():
        (stage.root / inside.lstrip("/")).touch()
        mounts.append(f"mount --bind {outside} {stage.root}{inside}")
    environment = {**stage.environment, "HOME": "/root", **stage.arguments, **context.network}
    finished = subprocess.run(
        enter(stage.root, mounts, ["env", "-i", "-C", stage.workdir, *assignments(environment), *words]),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, f"{line.original}\n{finished.stdout}"


def _workdir(stage: Stage, line: dockerfile.Command, *_: object) -> None:
    stage.workdir = str(Path(stage.workdir, stage.expand(line.value[0])))
    _inside(stage, ".").mkdir(parents=True, exist_ok=True)


def _healthcheck(stage: Stage, line: dockerfile.Command, *_: object) -> None:
    assert line.value[0] == "CMD", line.original
    assert line.json, "without a shell"
    stage.healthcheck = line.value[1:]
    stage.healthcheck_options = dict(flag.removeprefix("--").split("=") for flag in line.flags)


def _words(stage: Stage, line: dockerfile.Command) -> Sequence[str]:
    return line.value if line.json else (*stage.shell, line.value[0])


def _pairs(stage: Stage, line: dockerfile.Command) -> dict[str, str]:
    # All words of one instruction are expanded with what was set before it.
    return {key: stage.expand(value) for key, value in zip(line.value[::2], line.value[1::2], strict=True)}


_STEPS: Mapping[str, Callable[[Stage, dockerfile.Command, Context, Mapping[str, Stage]], None]] = {
    "COPY": _copy,
    "RUN": _run,
    "WORKDIR": _workdir,
    "HEALTHCHECK": _healthcheck,
    "ENV": lambda stage, line, *_: stage.environment.update(_pairs(stage, line)),
    "LABEL": lambda stage, line, *_: stage.labels.update(_pairs(stage, line)),
    "SHELL": lambda stage, line, *_: setattr(stage, "shell", line.value),
    "USER": lambda stage, line, *_: setattr(stage, "user", line.value[0]),
    "STOPSIGNAL": lambda stage, line, *_: setattr(stage, "stop_signal", line.value[0]),
    "EXPOSE": lambda stage, line, *_: stage.ports.extend(line.value),
    "ENTRYPOINT": lambda stage, line, *_: setattr(stage, "entrypoint", _words(stage, line)),
    "CMD": lambda stage, line, *_: setattr(stage, "command", _words(stage, line)),
}


def _inside(stage: Stage, relative: str) -> Path:
    return stage.root / stage.workdir.lstrip("/") / relative


def assignments(environment: Mapping[str, str]) -> list[str]:
    """NAME=value words for env(1)."""
    return [f"{name}={value}" for name, value in environment.items()]


def enter(root: Path, mounts: Sequence[str], command: Sequence[str]) -> list[str]:
    """A command to run in a root, as process 1 of its own namespaces, after some mounts that vanish with it."""
    script = "\n".join(
        ["set -e", *mounts, f"mount -t proc proc {root}/proc", f'exec chroot {root} "$@"'],
    )
    return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script, "enter", *command]


def start(stage: Stage, environment: Mapping[str, str]) -> list[str]:
    """The image's own command, as `docker run --read-only --cap-drop ALL` starts it."""
    root = stage.root
    mounts = [
        f"mount --bind {root} {root}",
        f"mount -o remount,bind,ro {root}",
    ]
    return enter(root, mounts, _as_user(stage, environment, [*stage.entrypoint, *stage.command]))


def within(stage: Stage, process: int, environment: Mapping[str, str], command: Sequence[str]) -> list[str]:
    """A command in the namespaces and the root of a running container's process, as `docker exec` runs it."""
    return [
        *("nsenter", "--target", str(process), "--mount", "--pid", "--root", "--wd"),
        *_as_user(stage, environment, command),
    ]


def first_process(unshare: int) -> int:
    """The process that unshare forked: number 1 in there."""
    (child,) = Path(f"/proc/{unshare}/task/{unshare}/children").read_text().split()
    return int(child)


def _as_user(stage: Stage, environment: Mapping[str, str], command: Sequence[str]) -> list[str]:
    user, _, group = stage.user.partition(":")
    return [
        *("setpriv", "--reuid", user, "--regid", group, "--clear-groups", "--no-new-privs"),
        *("--bounding-set=-all", "--inh-caps=-all", "--"),
        *("env", "-i", "-C", stage.workdir, *assignments({**stage.environment, **environment}), *command),
    ]
