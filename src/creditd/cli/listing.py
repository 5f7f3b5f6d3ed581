"""Lists: page after page from the server to a table, or to JSON Lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, TypeVar

import typer
from google.protobuf.message import Message
from rich.text import Text

from creditd.cli.client import TIMEOUT_SECONDS
from creditd.cli.output import Column, RowStream, json_of, note, write

PAGE_MAX = 1000

Item = TypeVar("Item", bound=Message)
Limit = Annotated[int, typer.Option(min=0, metavar="NUMBER", help="At most so many; 0: all.")]


def pages(call: Callable[..., Any], request: Any, field: str, limit: int) -> Iterator[tuple[list[Any], bool]]:
    """The items of a listing RPC page by page, up to `limit` (0: all), and whether there are more after each page."""
    request.page_size = min(limit, PAGE_MAX) if limit else PAGE_MAX
    left = limit
    while True:
        answer = call(request, timeout=TIMEOUT_SECONDS)
        items = list(getattr(answer, field))
        request.page_token = answer.next_page_token
        if limit and len(items) >= left:
            # A full page has a token even when it was the last one: look, rather than say what isn't so.
            more = len(items) > left or _goes_on(call, request, field)
            yield items[:left], more
            return
        left -= len(items)
        yield items, bool(request.page_token)
        if not request.page_token:
            return


def _goes_on(call: Callable[..., Any], request: Any, field: str) -> bool:
    return bool(request.page_token and getattr(call(request, timeout=TIMEOUT_SECONDS), field))


def show_pages(
    found: Iterator[tuple[list[Item], bool]],
    columns: Sequence[Column | str],
    row: Callable[[Item], Sequence[str | Text]],
    *,
    as_json: bool,
    empty: str,
) -> None:
    """Print pages as they come; what is left out by --limit is said on stderr."""
    stream, count, more = RowStream(columns), 0, False
    for items, more in found:  # noqa: B007  # the last page's `more` is told below
        count += len(items)
        if as_json:
            write("".join(f"{json_of(item)}\n" for item in items))
        else:
            stream.add([row(item) for item in items])
    if not count and not as_json:
        note(empty)
    if more:
        note(f"there are more than these {count:,}: --limit 0 lists all of them")
