"""How `creditd top` looks: a full screen from 80x24 upwards, and plain tables for pipes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.layout import Layout
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from creditd.cli.top_rates import Interval
from creditd.v1 import diagnostics_pb2 as pb

_HEADER, _LEDGER = 2, 3
_DECISIONS_MIN, _DECISIONS_MAX = 5, 8
_TABLE_MIN = 7
_FRAME = 3
"""Lines of a framed table beside its rows: the frame and the headings."""
_BLOCKS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class View:
    """What is shown. `history` has the decisions a second of the last minute, oldest first, None where unknown.

    `trouble` says why there is nothing newer than `stats`.
    """

    address: str
    stats: pb.ServerStats
    interval: Interval | None
    history: Sequence[float | None] = ()
    history_max: int = 60
    trouble: str = ""


def screen(view: View, width: int, height: int) -> RenderableType:
    """The whole screen for a terminal of a size."""
    rest = height - _HEADER - _LEDGER - _DECISIONS_MIN
    rpcs = len(view.interval.rpcs) if view.interval else 0
    calls = max(_TABLE_MIN, min(rpcs + _FRAME, rest // 2))
    wanted = max(_TABLE_MIN, len(view.stats.hottest.accounts) + _FRAME)
    lists = max(_TABLE_MIN, min(wanted, rest - calls))
    decisions = max(_DECISIONS_MIN, min(_DECISIONS_MAX, _DECISIONS_MIN + rest - calls - lists))
    layout = Layout()
    layout.split_column(
        Layout(_header(view), size=_HEADER),
        Layout(_decisions_panel(view, width, decisions - 2), size=decisions),
        Layout(_panel("calls", _calls(view, calls - _FRAME)), size=calls),
        Layout(name="lists", size=lists),
        Layout(_ledger_panel(view), size=_LEDGER),
        Layout(Text("")),
    )
    layout["lists"].split_row(
        Layout(_panel("denials", _denials(view, lists - _FRAME)), ratio=2),
        Layout(_panel(_hottest_title(view), _hottest(view, lists - _FRAME)), ratio=3),
    )
    return layout


def plain(view: View) -> RenderableType:
    """The same, once, without frames, for pipes and files."""
    stats = view.stats
    parts: list[RenderableType] = [
        Text(f"{view.address}: {_about(stats)}"),
        Text(_stores_text(stats)),
    ]
    if view.interval is not None:
        parts.append(Text(f"in the last {view.interval.seconds:.1f} s: {_decisions_text(view.interval)}"))
        parts.append(Text(_ledger_text(view)))
        parts += [Text(""), _calls(view, len(view.interval.rpcs))]
        if view.interval.denials:
            parts += [Text(""), _denials(view, len(view.interval.denials))]
    if stats.hottest.accounts:
        parts += [Text(""), Text(f"{_hottest_title(view)}:"), _hottest(view, len(stats.hottest.accounts))]
    return Group(*parts)


def sparkline(values: Sequence[float | None], width: int, height: int) -> list[str]:
    """Bars of the last `width` values over `height` lines, from the top; the highest fills them all.

    A value above zero is at least a sliver; one that is not known is blank.
    """
    shown = list(values)[-width:]
    top = max((value for value in shown if value is not None), default=0.0)
    steps = height * 8
    bars = [
        0 if not value or not top else max(1, min(steps, round(value / top * steps)))
        for value in (value or 0.0 for value in shown)
    ]
    return [
        "".join(_BLOCKS[min(8, max(0, bar - line * 8))] for bar in bars).rjust(width)
        for line in range(height - 1, -1, -1)
    ]


def _panel(title: str, content: RenderableType) -> Panel:
    return Panel(content, title=Text(title, "bold default"), title_align="left", border_style="bright_black")


def _grid(*columns: tuple[str, bool], fold: bool = False) -> Table:
    """A table without lines; of each column its heading and whether it holds numbers."""
    table = Table(box=None, expand=not fold, pad_edge=False, padding=(0, 1), header_style="bright_black")
    for place, (title, number) in enumerate(columns):
        table.add_column(
            title,
            justify="right" if number else "left",
            ratio=None if place else 1,
            no_wrap=True,
            overflow="ellipsis",
        )
    return table


def _header(view: View) -> RenderableType:
    title = Text.assemble(("creditd top", "bold cyan"), "  ", (_printable(view.address), "bold"))
    state = Text(view.trouble, "bold yellow") if view.trouble else _stores(view.stats)
    return Group(
        _ends(title, Text(_about(view.stats), "bright_black")), _ends(state, Text("q quits", "bright_black"))
    )


def _ends(left: Text, right: Text) -> Table:
    """One line: `left` as far as there is room, and `right` at the end."""
    table = Table.grid(expand=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column(no_wrap=True, justify="right")
    table.add_row(left, right)
    return table


def _about(stats: pb.ServerStats) -> str:
    seconds = (stats.now.ToMilliseconds() - stats.started_at.ToMilliseconds()) / 1000
    return (
        f"creditd {stats.version} · {stats.transport} · {stats.instance_id[:8]} · up {duration_text(seconds)}"
    )


def _stores(stats: pb.ServerStats) -> Text:
    text = Text()
    for name, there in (("hot store", stats.hot_store_reachable), ("ledger", stats.ledger_reachable)):
        text.append("● ", "green" if there else "bold red")
        text.append(name if there else f"{name} is away", "" if there else "bold red")
        text.append("   ")
    text.append(f"{stats.cached_policies:,} accounts known", "bright_black")
    return text


def _stores_text(stats: pb.ServerStats) -> str:
    said = [
        f"{name} {'answers' if there else 'is away'}"
        for name, there in (("hot store", stats.hot_store_reachable), ("ledger", stats.ledger_reachable))
    ]
    return f"{', '.join(said)}; {stats.cached_policies:,} accounts known"


def _decisions_panel(view: View, width: int, lines: int) -> RenderableType:
    interval = view.interval
    figures = Text()
    if interval is None:
        figures.append("waiting for a whole interval", "bright_black")
    else:
        figures.append(f"{rate_text(interval.decisions_per_s):>9}", "bold cyan")
        figures.append(" /s\n")
        for name, rate, style in (
            ("allowed", interval.allowed_per_s, "green"),
            ("denied", interval.denied_per_s, "red"),
            ("replays", interval.replays_per_s, "bright_black"),
        ):
            figures.append(f"{rate_text(rate):>9}", style if rate else "bright_black")
            figures.append(f" {name}\n", "bright_black")
    table = Table.grid(expand=True)
    table.add_column(width=20, no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    room = max(1, width - 26)
    bars = sparkline(_fitted(view.history, view.history_max, room), room, lines)
    table.add_row(figures, Text("\n".join(bars), "cyan"))
    known = [value for value in view.history if value is not None]
    title = f"decisions, last minute (highest {rate_text(max(known))} /s)" if known else "decisions"
    return Panel(table, title=Text(title, "bold default"), title_align="left", border_style="bright_black")


def _fitted(history: Sequence[float | None], history_max: int, room: int) -> list[float | None]:
    """The history in steps such that a whole minute of it takes the room: each value several times, or means."""
    each = room // history_max
    if each:
        return [value for value in history for _ in range(each)]
    size = -(-history_max // room)
    groups = [history[max(0, end - size) : end] for end in range(len(history), 0, -size)]
    known = [[value for value in group if value is not None] for group in reversed(groups)]
    return [sum(group) / len(group) if group else None for group in known]


def _calls(view: View, rows: int) -> Table:
    table = _grid(("call", False), ("/s", True), ("errors /s", True), ("p50 ms", True), ("p99 ms", True))
    for rpc in view.interval.rpcs[:rows] if view.interval else ():
        quiet = "bright_black" if not rpc.calls_per_s else ""
        table.add_row(
            Text(rpc.name, quiet),
            Text(rate_text(rpc.calls_per_s), quiet),
            Text(rate_text(rpc.errors_per_s), "bold red" if rpc.errors_per_s else "bright_black"),
            Text(ms_text(rpc.p50_s), quiet),
            Text(ms_text(rpc.p99_s), quiet),
        )
    return table


def _denials(view: View, rows: int) -> Table:
    table = _grid(("reason", False), ("/s", True))
    for reason, rate in view.interval.denials[:rows] if view.interval else ():
        table.add_row(Text(reason, "red"), rate_text(rate))
    return table


def _hottest_title(view: View) -> str:
    return f"hottest accounts, last {view.stats.hottest.window.ToSeconds()} s"


def _hottest(view: View, rows: int) -> Table:
    table = _grid(("account", False), ("decisions", True), ("denied", True), ("burned", True))
    for hot in view.stats.hottest.accounts[:rows]:
        sure = "" if not hot.decisions_missed_max else "≥"
        table.add_row(
            Text(_printable(hot.account), "cyan"),
            f"{sure}{hot.decisions:,}",
            Text(f"{hot.denials:,}", "red" if hot.denials else "bright_black"),
            amount_text(hot.burned_micros),
        )
    return table


def _ledger_panel(view: View) -> RenderableType:
    text = Text(_ledger_text(view), no_wrap=True, overflow="ellipsis")
    if view.interval is not None and view.interval.commits.failed_attempts:
        text.stylize("bold red")
    return _panel("ledger", text)


def _ledger_text(view: View) -> str:
    stats = view.stats
    outbox = f"outbox {stats.outbox_depth:,}" if stats.HasField("outbox_depth") else "outbox unknown"
    parts = [outbox, f"queued {stats.commits.queued:,}"]
    if view.interval is not None:
        commits = view.interval.commits
        parts.append(f"{rate_text(commits.units_per_s)} units/s")
        if commits.units_per_flight is not None:
            parts.append(f"{commits.units_per_flight:.1f} per commit")
            parts.append(f"p50 {ms_text(commits.p50_s)} p99 {ms_text(commits.p99_s)} ms")
        if commits.failed_attempts:
            parts.append(f"{commits.failed_attempts} failed")
    return " · ".join(parts)


def _decisions_text(interval: Interval) -> str:
    return (
        f"{rate_text(interval.decisions_per_s)} decisions/s ({rate_text(interval.allowed_per_s)} allowed,"
        f" {rate_text(interval.denied_per_s)} denied, {rate_text(interval.replays_per_s)} replays)"
    )


def rate_text(rate: float) -> str:
    """A rate with as many places as it needs: 0, 0.4, 12.5, 4,321."""
    if not rate:
        return "0"
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}" if rate >= 0.05 else "<0.1"


def ms_text(seconds: float | None) -> str:
    """A latency in ms with about three digits; `-` when there is none."""
    if seconds is None:
        return "-"
    milliseconds = seconds * 1000
    return f"{milliseconds:,.0f}" if milliseconds >= 100 else f"{milliseconds:.3g}"


def amount_text(micros: int) -> str:
    """Micro-credits as credits for a narrow column: 0.75, 1,234, 12.3M."""
    credits = micros / 1e6
    for size, letter in ((1e9, "G"), (1e6, "M")):
        if credits >= size:
            return f"{credits / size:,.1f}{letter}"
    return f"{credits:,.0f}" if credits >= 100 else f"{credits:.3g}"


def duration_text(seconds: float) -> str:
    """How long, in its two largest units: 12 s, 3 min 20 s, 4 d 2 h."""
    left = max(0, int(seconds))
    parts: list[str] = []
    for size, name in ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")):
        count, left = divmod(left, size)
        if count or (name == "s" and not parts):
            parts.append(f"{count} {name}")
    return " ".join(parts[:2])


def _printable(text: str) -> str:
    """A text of others, with what a terminal could act on spelled out."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
