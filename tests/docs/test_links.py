"""Every relative link of README.md, docs/ and docs/decisions/ leads to a file, and every anchor to a heading."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.docs.pages import ROOT, outside_blocks, page_name, pages

LINKING = [*pages(), *sorted((ROOT / "docs").glob("*/**/*.md")), ROOT / "CHANGELOG.md"]

_LINK = re.compile(
    r"\[[^\]]*\]\(([^)\s]+)\)|<(?:img|source)[^>]*? (?:src|srcset)=\"([^\"]+)\"|<a[^>]*? href=\"([^\"]+)\""
)
_ELSEWHERE = ("https://", "http://", "mailto:")

# Pages that are linked to before they are written. Empty this when they are there.
AWAITED: frozenset[str] = frozenset()


def links(text: str) -> list[str]:
    """The targets of a page's links and pictures."""
    return [target for found in _LINK.findall(outside_blocks(text)) for target in found if target]


def anchors(text: str) -> set[str]:
    """The places of a page that can be linked to, as GitHub makes them of its headings."""
    found: dict[str, int] = {}
    places = set(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", text))
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", outside_blocks(text), re.MULTILINE):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        place = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        times = found.get(place, 0)
        found[place] = times + 1
        places.add(f"{place}-{times}" if times else place)
    return places


def fault(page: Path, target: str) -> str:
    """What is wrong with a link; "" when nothing is."""
    path, _, place = target.partition("#")
    aim = (page.parent / path).resolve() if path else page
    if not aim.is_relative_to(ROOT):
        return f"{target} leads out of the repository"
    if not aim.exists():
        if str(aim.relative_to(ROOT)) in AWAITED:
            return ""
        return f"{target}: there is no {aim.relative_to(ROOT)}"
    if place and aim.suffix == ".md" and place not in anchors(aim.read_text()):
        return f"{target}: {aim.relative_to(ROOT)} has no heading for #{place}"
    return ""


@pytest.mark.parametrize("page", LINKING, ids=page_name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = [target for target in links(page.read_text()) if not target.startswith(_ELSEWHERE)]
    assert [said for target in targets if (said := fault(page, target))] == []


def test_pages_that_are_there_are_not_awaited_any_more() -> None:
    assert [page for page in sorted(AWAITED) if (ROOT / page).exists()] == [], "take them out of AWAITED"


@pytest.mark.parametrize(
    "target", ["docs/no-such-page.md", "docs/api.md#no-such-heading", "#no-such-heading", "../elsewhere.md"]
)
def test_a_link_to_nowhere_is_found(target: str) -> None:
    assert fault(ROOT / "README.md", target)


def test_links_in_blocks_are_not_links_and_pictures_are() -> None:
    text = '# A\n```\n[a](b.md)\n```\n![x](y.svg) <img alt="" src="z.svg">\n'
    assert links(text) == ["y.svg", "z.svg"]


def test_anchors_are_those_of_github() -> None:
    text = "# How it `works`\n## Grants, and [which](x.md) pays first\n## A\n## A\n```\n# not one\n```\n"
    assert anchors(text) == {"how-it-works", "grants-and-which-pays-first", "a", "a-1"}
