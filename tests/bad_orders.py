"""The bad input of both doors: what is wrong, and the code and field that each door must answer with."""

from collections.abc import Callable
from typing import Any, NamedTuple

from tests.shop import order

Order = dict[str, Any]
TOO_LONG = "x" * 201


class Bad(NamedTuple):
    """A way to spoil an order; `found` says whether its key can be asked for afterwards."""

    name: str
    spoil: Callable[[Order, str], Any]
    code: str
    field: str
    found: bool = True


def _with(**fields: Any) -> Callable[[Order, str], Any]:
    return lambda good, sku: good | fields


def _without(field: str) -> Callable[[Order, str], Any]:
    return lambda good, sku: {name: value for name, value in good.items() if name != field}


def _quantity(value: Any) -> Callable[[Order, str], Any]:
    return lambda good, sku: good | {"lines": [{"sku": sku, "quantity": 1}, {"sku": sku, "quantity": value}]}


def _line(line: Any) -> Callable[[Order, str], Any]:
    return lambda good, sku: good | {"lines": [*good["lines"], line]}


BAD = [
    Bad("unknown sku", _line({"sku": "NONE", "quantity": 1}), "OM002", "lines[1].sku"),
    Bad("unknown customer", _with(customer="NOBODY"), "OM003", "customer"),
    Bad("unknown pool", _with(pool="NOWHERE"), "OM004", "pool"),
    Bad("unknown currency", _with(currency="XXX"), "OM005", "currency"),
    Bad("currency of another price", _with(currency="EUR"), "OM006", "currency"),
    Bad("quantity 0", _quantity(0), "OM007", "lines[1].quantity"),
    Bad("quantity -1", _quantity(-1), "OM007", "lines[1].quantity"),
    Bad("quantity 2^31", _quantity(2**31), "OM007", "lines[1].quantity"),
    Bad("quantity 2^80", _quantity(2**80), "OM007", "lines[1].quantity"),
    Bad("quantity two", _quantity("two"), "OM007", "lines[1].quantity"),
    Bad("quantity '2'", _quantity("2"), "OM007", "lines[1].quantity"),
    Bad("quantity 1.5", _quantity(1.5), "OM007", "lines[1].quantity"),
    Bad("quantity NaN", _quantity(float("nan")), "OM007", "lines[1].quantity"),
    Bad("quantity infinite", _quantity(float("-inf")), "OM007", "lines[1].quantity"),
    Bad("quantity true", _quantity(True), "OM007", "lines[1].quantity"),
    Bad("quantity null", _quantity(None), "OM007", "lines[1].quantity"),
    Bad("no quantity", _line({"sku": "A"}), "OM007", "lines[1].quantity"),
    Bad("no sku", _line({"quantity": 1}), "OM013", "lines[1].sku"),
    Bad("line is a text", _line("SKU-1"), "OM011", "lines[1]"),
    Bad("unknown field of a line", _line({"sku": "A", "quantity": 1, "price": 1}), "OM012", "lines[1].price"),
    Bad("empty lines", _with(lines=[]), "OM008", "lines"),
    Bad("lines null", _with(lines=None), "OM008", "lines"),
    Bad("no lines", _without("lines"), "OM008", "lines"),
    Bad("lines is an object", _with(lines={"sku": "A"}), "OM011", "lines"),
    Bad("10,000 lines", _with(lines=[{"sku": "A", "quantity": 1}] * 10_000), "OM009", "lines"),
    Bad(
        "one sku beyond the limit",
        lambda good, sku: good | {"lines": [{"sku": sku, "quantity": 600_000}] * 2},
        "OM007",
        "lines",
    ),
    Bad("NUL in the customer", _with(customer="C\0-1"), "OM013", "customer"),
    Bad("NUL in a sku", _line({"sku": "A\0", "quantity": 1}), "OM013", "lines[1].sku"),
    Bad("NUL in the key", _with(key="k\0"), "OM013", "key", found=False),
    Bad("lone surrogate", _with(customer="C\ud800"), "OM013", "customer"),
    Bad("control character", _with(ship_to="ho\nme"), "OM013", "ship_to"),
    Bad("empty customer", _with(customer=""), "OM013", "customer"),
    Bad("long customer", _with(customer=TOO_LONG), "OM013", "customer"),
    Bad("customer is a number", _with(customer=1), "OM013", "customer"),
    Bad("no customer", _without("customer"), "OM013", "customer"),
    Bad("no pool", _without("pool"), "OM013", "pool"),
    Bad("long key", _with(key=TOO_LONG), "OM013", "key", found=False),
    Bad("empty key", _with(key=""), "OM013", "key", found=False),
    Bad("key is a number", _with(key=7), "OM013", "key", found=False),
    Bad("unknown field", _with(colour="red"), "OM012", "colour"),
    Bad("unknown field with a NUL", _with(**{"a\0": 1}), "OM012", "a\ufdd0"),
    Bad("version 2", _with(version=2), "OM020", "version"),
    Bad("version true", _with(version=True), "OM020", "version"),
    Bad("no time", _with(ordered_at="yesterday"), "OM019", "ordered_at"),
    Bad("time without an offset", _with(ordered_at="2026-01-01T10:00:00"), "OM019", "ordered_at"),
    Bad("day that is not", _with(ordered_at="2026-02-30T10:00:00Z"), "OM019", "ordered_at"),
    Bad("time to come", _with(ordered_at="2999-01-01T10:00:00Z"), "OM019", "ordered_at"),
    Bad("unknown address", _with(ship_to="office"), "OM018", "ship_to"),
    Bad("a text", lambda good, sku: "an order", "OM011", "request", found=False),
    Bad("a list", lambda good, sku: [good], "OM011", "request", found=False),
    Bad("nothing", lambda good, sku: None, "OM011", "request", found=False),
]


def spoiled(bad: Bad, sku: str) -> Any:
    """A new order of one unit of the sku, spoiled."""
    return bad.spoil(order(None, (sku, 1)), sku)
