"""Makes docs/api.md from the protos and docs/configuration.md from the settings; `--check` fails when one is stale."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from api_page import api_page, services
from configuration_page import configuration_page

from creditd.rpc import server

ROOT = Path(__file__).resolve().parent.parent


def unserved() -> frozenset[str]:
    """The RPCs that the servicers of this release declare as not served, as Service.Method."""
    found = set()
    for service, methods in services().items():
        servicer = getattr(server, f"{service}Servicer", None)
        for method in methods:
            handler = getattr(servicer, method, None)
            # What `not_served` makes is a function within it. tests/docs holds this to what a server answers.
            if handler is None or handler.__qualname__.startswith("not_served."):
                found.add(f"{service}.{method}")
    return frozenset(found)


def made() -> dict[Path, str]:
    """The pages, by where they belong."""
    docs = ROOT / "docs"
    return {docs / "api.md": api_page(unserved()), docs / "configuration.md": configuration_page()}


def main() -> int:
    """Runs the command line; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when a page is stale")
    check = parser.parse_args().check
    stale = [path for path, text in made().items() if not path.exists() or path.read_text() != text]
    if check:
        for path in stale:
            print(f"stale: {path.relative_to(ROOT)}", file=sys.stderr)
        if stale:
            print("run `make docs` and commit the result", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.write_text(made()[path])
    return 0


if __name__ == "__main__":
    sys.exit(main())
