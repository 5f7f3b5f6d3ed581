"""`creditd catalog import-prices`: a price map as a catalog file, or merged into one."""

from __future__ import annotations

import csv
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from creditd.cli.output import fail, note, waiting, write
from creditd.cli.price_units import money_of
from creditd.v1 import catalog_pb2 as pb

if TYPE_CHECKING:
    from creditd.cli.import_prices import Imported


def _fraction(text: str) -> Fraction:
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise typer.BadParameter(f"{text!r} is no number; expected one as 0.01 or 1/3") from None


def import_prices_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="LiteLLM price map, as JSON.", dir_okay=False)],
    *,
    feature: Annotated[
        str, typer.Option(metavar="KEY", help="Key of the CREDIT feature that gets the rates.")
    ],
    credit: Annotated[str, typer.Option(metavar="KEY", help="Key of the credit that it burns.")],
    credit_value: Annotated[
        Fraction, typer.Option(parser=_fraction, metavar="USD", help="What one credit is worth, in USD.")
    ],
    markup: Annotated[
        Fraction, typer.Option(parser=_fraction, metavar="FACTOR", help="1.2 charges 20 % above cost.")
    ] = Fraction(1),
    merge: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", dir_okay=False, help="Catalog to put the rates into (its comments are not kept)."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", dir_okay=False, help="Where to write, as YAML or *.json. Else stdout."),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE", dir_okay=False, help="Where to list what the rates lack, as CSV."),
    ] = None,
) -> None:
    r"""Make a catalog from a price map: exact prices, in credits, for every model.

    Example:
      creditd catalog import-prices examples/model-prices.json --feature chat \
        --credit credits --credit-value 0.01 --markup 1.3 --output prices.json
    """
    # Here and not above: YAML is slow to import.
    from creditd.cli.catalog_dump import dump_catalog
    from creditd.cli.document import DocumentError
    from creditd.cli.import_prices import import_prices, load_price_map

    try:
        with waiting(f"importing {file}"):
            imported = import_prices(
                load_price_map(file), credit=credit, feature=feature, credit_value=credit_value, markup=markup
            )
            catalog = _merged(merge, imported, credit, credit_value)
    except DocumentError as error:
        raise fail("\n".join(error.lines())) from None
    except OSError as error:
        raise fail(f"cannot read {error.filename}: {error.strerror}") from None
    except ValueError as error:
        raise fail(f"{file}: {error}") from None
    text = dump_catalog(catalog, as_json=output is not None and output.suffix == ".json")
    if output is None:
        write(text)
    try:
        if output is not None:
            output.write_text(text, encoding="utf-8")
        if report is not None:
            _write_report(imported, report)
    except OSError as error:
        raise fail(f"cannot write {error.filename}: {error.strerror}") from None
    _summarise(imported)


def _merged(merge: Path | None, imported: Imported, credit: str, credit_value: Fraction) -> pb.Catalog:
    """The catalog of `merge` with the feature's rates replaced, or one with nothing but the feature."""
    from creditd.cli.catalog_file import load_catalog

    catalog = pb.Catalog() if merge is None else load_catalog(merge).message
    if all(known.key != credit for known in catalog.credits):
        catalog.credits.add(key=credit, value=money_of(credit_value))
    for known in catalog.features:
        if known.key == imported.feature.key:
            del known.rates[:]
            known.rates.extend(imported.feature.rates)
            known.type, known.credit = pb.FEATURE_TYPE_CREDIT, credit
            known.default_meter = known.default_meter or imported.feature.default_meter
            return catalog
    catalog.features.append(imported.feature)
    return catalog


def _summarise(imported: Imported) -> None:
    rates = len(imported.feature.rates)
    note(f"{imported.models:,} models, {rates:,} rates, {imported.feature.ByteSize():,} bytes")
    if imported.unpriced:
        note(f"{len(imported.unpriced):,} models have no price in the map")
    for title, entries in (
        ("not in the rates", imported.unexpressed),
        ("rounded", imported.approximated),
    ):
        for (field, why), count in Counter((entry.field, entry.why) for entry in entries).most_common():
            note(f"  {title}: {count:,} x {field}: {why}")


def _write_report(imported: Imported, report: Path) -> None:
    with report.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("kind", "model", "field", "value", "why"))
        for kind, entries in (("unexpressed", imported.unexpressed), ("rounded", imported.approximated)):
            rows.writerows((kind, entry.model, entry.field, entry.value, entry.why) for entry in entries)
        rows.writerows(("unpriced", model, "", "", "has no price in the map") for model in imported.unpriced)
