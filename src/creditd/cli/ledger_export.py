"""Ledger entries as a file: JSON Lines or CSV, complete or not at all."""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from creditd.cli.output import console_for_progress, fail, json_of, note, write
from creditd.cli.tables import enum_text
from creditd.domain.amounts import MICROS_PER_CREDIT, NANOS_PER_UNIT
from creditd.domain.catalog_text import decimal_text
from creditd.v1 import ledger_pb2 as pb

STDOUT = "-"
COLUMNS = (
    "sequence",
    "at",
    "kind",
    "credit",
    "amount",
    "balance_after",
    "overage",
    "feature",
    "subject",
    "usage",
    "attributes",
    "metadata",
    "grant_id",
    "paid_by",
    "occurred_at",
    "idempotency_key",
    "catalog_version",
    "cost",
    "id",
)


def write_entries(found: Iterator[tuple[list[pb.Entry], bool]], output: Path, *, as_csv: bool) -> None:
    """Write pages of entries, newest first, with a progress bar on a terminal.

    Until the last page is there a file lies beside `output` under another name.
    """
    try:
        with _opened(output) as file:
            count = _copy(found, file, as_csv=as_csv)
    except OSError as error:
        raise fail(f"cannot write {output}: {error.strerror}") from None
    if str(output) != STDOUT:
        note(f"{count:,} entries in {output}")


class _Stdout:
    """stdout, as a file that a pipe's end may close."""

    def write(self, text: str) -> None:
        write(text)


@contextmanager
def _opened(output: Path) -> Iterator[Any]:
    if str(output) == STDOUT:
        yield _Stdout()
        return
    if not output.is_file() and output.exists():
        # A device or a pipe, such as /dev/stderr or >(gzip): it can't be replaced by another file.
        with output.open("w", encoding="utf-8", newline="") as file:
            yield file
        return
    target = output.resolve()
    descriptor, scratch = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            yield file
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask()
        Path(scratch).chmod(mode)
        Path(scratch).replace(target)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise


def _umask() -> int:
    # There is no way to read it but to set it.
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _copy(found: Iterator[tuple[list[pb.Entry], bool]], file: Any, *, as_csv: bool) -> int:
    columns = (BarColumn(), TextColumn("{task.fields[count]:,} entries"), TimeRemainingColumn())
    console = console_for_progress()
    count, newest = 0, 0
    if as_csv:
        file.write(_csv([COLUMNS]))
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("", total=None, count=0)
        for entries, more in found:
            rows = (_row(entry) for entry in entries) if as_csv else ()
            file.write(_csv(rows) if as_csv else "".join(f"{json_of(entry)}\n" for entry in entries))
            count += len(entries)
            if entries:
                # Numbers go down to 1 without gaps: how far there is to go is known, also when most don't match.
                newest = newest or entries[0].sequence
                done = newest - entries[-1].sequence + 1 if more else newest
                progress.update(task, total=newest, completed=done, count=count)
    return count


def _csv(rows: Any) -> str:
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _row(entry: pb.Entry) -> list[str]:
    return [
        str(entry.sequence),
        entry.at.ToJsonString(),
        enum_text(pb.Entry.Kind, entry.kind),
        entry.credit,
        _credits(entry.amount_micros),
        _credits(entry.balance_after_micros),
        _credits(entry.overage_micros),
        entry.feature,
        entry.subject,
        _pairs(entry.usage),
        _pairs(entry.attributes),
        _pairs(entry.metadata),
        entry.grant_id,
        _pairs({item.grant_id: _credits(item.amount_micros) for item in entry.allocations}),
        entry.occurred_at.ToJsonString() if entry.HasField("occurred_at") else "",
        entry.idempotency_key,
        str(entry.catalog_version),
        _money(entry),
        entry.id,
    ]


def _credits(micros: int) -> str:
    return decimal_text(micros, MICROS_PER_CREDIT)


def _pairs(values: Mapping[str, object]) -> str:
    """A map as JSON: a value may have any character."""
    return json.dumps(dict(values), ensure_ascii=False, sort_keys=True) if values else ""


def _money(entry: pb.Entry) -> str:
    if not entry.HasField("cost"):
        return ""
    nanos = entry.cost.units * NANOS_PER_UNIT + entry.cost.nanos
    return f"{decimal_text(nanos, NANOS_PER_UNIT)} {entry.cost.currency_code}"
