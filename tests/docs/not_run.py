"""The commands of the docs that this test run does not run as they are written, and why.

One row for each: a pattern that must match the whole command, and the reason, which says where it is run instead, if
it is. Nothing else is left out. Give a new row the narrowest pattern that fits.
"""

from __future__ import annotations

import re
from typing import Final

_SERVER = "the page's own `creditd dev --demo` is this very command, on a port and folder of the test's own"
_TOOLCHAIN = "needs a package registry; the tests of that language's client build it and run it"
_ENGINE = "needs a container engine; the tests of the image run the same steps without one"
_CLUSTER = "needs a cluster; the tests of the chart check what it would apply"

ROWS: Final = tuple(
    (re.compile(pattern), reason)
    for pattern, reason in (
        (r"git clone \S+( \S+)?( && cd \S+)?", "needs the network; the tests are run in a clone"),
        (r"cd creditd", "the clone's folder; the page runs in a copy of it"),
        (r"make (run|dev)( +#.*)?", _SERVER),
        (r"(\.venv/bin/)?creditd dev( --demo)?( --transport \w+)?( +#.*)?", _SERVER),
        (r"make test( +#.*)?", "it is what runs this"),
        (r"make test-faults( [A-Z]+=\S+)*( +#.*)?", "minutes of load; .ci/run runs a part of it"),
        (r"make setup( +#.*)?", "was run before the tests, which use its .venv"),
        (
            r"(LANGUAGES='[a-z ]+' )?make (clients|clients-check|test-clients)( +#.*)?",
            "run by .ci/run",
        ),
        (
            r"make (lint|proto|proto-check|docs|docs-check|chart|bench)( +#.*)?",
            "run by .ci/run",
        ),
        (
            r"go install github\.com/fullstorydev/grpcurl/cmd/grpcurl@v1\.9\.3",
            "the test has built that very version, and puts it on the path",
        ),
        (r"source \.venv/bin/activate( +#.*)?", "the test's shell has `creditd` on its path already"),
        (r"export CREDITD_(POSTGRES_DSN|REDIS_URL)=\S+", "the test's own stores are in the environment"),
        (
            r"(CREDITD_\w+=\S+ )*(\.venv/bin/)?creditd serve( [^;&]*)?",
            "does not end; tests/e2e runs it on real stores",
        ),
        (
            r"(pip|pip3|python -m pip|uv pip|uv tool|pipx) install [^;&]*",
            "the tests of the package install it",
        ),
        (r"python3? -m venv \S+", "the tests of the package make one"),
        (r"(docker|podman) [^;&]*", _ENGINE),
        (r"(kubectl|helm) [^;&]*", _CLUSTER),
        (r"(npm|npx|go get|cargo|mvn|\./mvnw) [^;&]*", _TOOLCHAIN),
        (r"make (dist|image)( +#.*)?", "the tests of the package and of the image run what it does"),
        (r"uv venv [^;&]*", "the tests of the package make one"),
        (r"/opt/creditd/bin/\S+( [^;&]*)?", "the tests of the package run it from an installation of theirs"),
        (r"go mod (edit|tidy|init)[^;&]*", _TOOLCHAIN),
        (r"make -C \S*clients/\w+ \w+", _TOOLCHAIN),
    )
)


def reason_not_run(command: str) -> str:
    """Why a command is not run as written, or "" when it is run."""
    return next((reason for pattern, reason in ROWS if pattern.fullmatch(command)), "")
