"""Small wire values <-> domain values: enums, money, instants, JSON, periods; faults are noted by path."""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import StrEnum
from functools import cache
from typing import Any, TypeVar

from google.protobuf.struct_pb2 import ListValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp
from google.type import money_pb2  # type: ignore[import-untyped]

from creditd.domain.amounts import NANOS_PER_UNIT, Rounding
from creditd.domain.catalog import BurnOrder, FeatureType, Json, Money, Period, Unit, Window
from creditd.domain.errors import Violation
from creditd.v1 import catalog_pb2 as pb
from creditd.v1 import entitlements_pb2

E = TypeVar("E", bound=StrEnum)

_ENUMS: dict[type[StrEnum], Any] = {
    BurnOrder: pb.BurnOrder,
    FeatureType: pb.FeatureType,
    Rounding: pb.Rounding,
    Unit: pb.Period.Unit,
    Window: pb.Window,
}

_NANOS_PER_MS = 1_000_000
MONEY_UNITS_MAX = 9_000_000_000
"""Whole units of a currency: in nanos it still fits 64 bits."""
_INTEGRAL_MAX = 2**53
"""Whole numbers up to here are exact in a double, and come back as integers."""


class Faults:
    """Collects violations while a message is read."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []

    def add(self, path: str, problem: str) -> None:
        """Notes that the field at `path` is wrong."""
        self.violations.append(Violation(path, problem))


@cache
def _by_number(kind: type[E]) -> dict[int, E]:
    """The wire numbers of an enum; a value is named as its domain member, after the enum's own prefix."""
    descriptor = _ENUMS[kind].DESCRIPTOR
    return {value.number: kind[value.name.removeprefix(_prefix(kind))] for value in descriptor.values[1:]}


def _prefix(kind: type[StrEnum]) -> str:
    """FeatureType -> FEATURE_TYPE_."""
    return "".join(f"_{c}" if c.isupper() and i else c for i, c in enumerate(kind.__name__)).upper() + "_"


def read_enum(number: int, kind: type[E], path: str, faults: Faults, default: E | None = None) -> E:
    """The domain value of wire value `number`; 0 is `default`, or a fault where there is none."""
    known: dict[int, E] = _by_number(kind)
    if number in known:
        return known[number]
    if number != 0 or default is None:
        given = "is not set" if number == 0 else f"has the unknown value {number}"
        expected = ", ".join(_prefix(kind) + member for member in kind)
        faults.add(path, f"{given}; expected one of {expected}")
    return default or next(iter(kind))


def read_money(money: money_pb2.Money, path: str, faults: Faults) -> Money:
    """Units and nanos as one number of nanos."""
    if abs(money.nanos) >= NANOS_PER_UNIT or money.units * money.nanos < 0:
        faults.add(
            f"{path}.nanos", f"is {money.nanos}; expected less than a whole unit, of the sign of units"
        )
    if abs(money.units) > MONEY_UNITS_MAX:
        faults.add(f"{path}.units", f"is {money.units}; expected at most {MONEY_UNITS_MAX} either way")
    return Money(money.currency_code, money.units * NANOS_PER_UNIT + money.nanos)


def money_to_proto(money: Money) -> money_pb2.Money:
    """Units and nanos of one sign, as google.type.Money wants them."""
    units, nanos = divmod(abs(money.nanos), NANOS_PER_UNIT)
    sign = -1 if money.nanos < 0 else 1
    return money_pb2.Money(currency_code=money.currency, units=sign * units, nanos=sign * nanos)


def timestamp_from_proto(timestamp: Timestamp) -> int:
    """Milliseconds since the epoch; finer parts are cut off."""
    return timestamp.seconds * 1000 + timestamp.nanos // _NANOS_PER_MS


def timestamp_to_proto(milliseconds: int) -> Timestamp:
    """The instant as a protobuf Timestamp."""
    seconds, rest = divmod(milliseconds, 1000)
    return Timestamp(seconds=seconds, nanos=rest * _NANOS_PER_MS)


def allocations_to_proto(allocations: Iterable[tuple[str, int]]) -> list[entitlements_pb2.Allocation]:
    """What each grant paid, in micros, in burn order."""
    return [
        entitlements_pb2.Allocation(grant_id=grant_id, amount_micros=amount)
        for grant_id, amount in allocations
    ]


def read_json(value: Value, path: str, faults: Faults) -> Json:
    """A JSON value; whole numbers become int. NaN, infinities and a Value with nothing set are faults."""
    kind = value.WhichOneof("kind")
    match kind:
        case "number_value":
            return _number(value.number_value, path, faults)
        case "struct_value":
            fields = value.struct_value.fields
            return {name: read_json(fields[name], f"{path}.{name}", faults) for name in fields}
        case "list_value":
            items = value.list_value.values
            return [read_json(item, f"{path}[{i}]", faults) for i, item in enumerate(items)]
        case "null_value":
            return None
        case None:
            faults.add(path, "holds no value; expected a JSON value")
            return None
        case _:
            return getattr(value, kind)


def _number(number: float, path: str, faults: Faults) -> Json:
    if not math.isfinite(number):
        faults.add(path, f"is {number}; expected a JSON number, which is finite")
        return 0
    return int(number) if number.is_integer() and abs(number) <= _INTEGRAL_MAX else number


def json_to_proto(value: Json) -> Value:
    """A JSON value as a protobuf Value."""
    match value:
        case None:
            return Value(null_value=0)  # type: ignore[arg-type]  # NULL_VALUE, the enum's only value
        case bool():
            return Value(bool_value=value)
        case int() | float():
            return Value(number_value=value)
        case str():
            return Value(string_value=value)
        case list() | tuple():
            return Value(list_value=ListValue(values=[json_to_proto(item) for item in value]))
        case _:
            fields = {name: json_to_proto(item) for name, item in value.items()}
            return Value(struct_value=Struct(fields=fields))


def read_period(period: pb.Period, path: str, faults: Faults) -> Period:
    """A period; a count that is not given is 1."""
    unit = read_enum(period.unit, Unit, f"{path}.unit", faults)
    return Period(unit, period.count or 1)


def period_to_proto(period: Period) -> pb.Period:
    """A period on the wire."""
    return pb.Period(unit=pb.Period.Unit.Value(f"UNIT_{period.unit}"), count=period.count)
