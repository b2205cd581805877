"""A small shop for tests: catalog, stock and orders in a few words. It writes catalog rows as the owner and stock by
`shop.load_stock`; everything else goes through the routines of `api`, as anybody would."""

import secrets
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

Outcome = dict[str, Any]
ACCOUNTS = ("available", "held", "committed", "unavailable", "incoming", "in_transit")


class Shop:
    """Two pools after `open()`: EAST with E1, E2 and E3 in this priority, WEST with W1; customer C-1, address
    `home`."""

    def __init__(self, db: psycopg.Connection[Any]) -> None:
        self.db = db

    def open(self) -> None:
        self.db.execute("INSERT INTO shop.categories (code, name) VALUES ('CAT', 'All')")
        self.pool("EAST", "E1", "E2", "E3")
        self.pool("WEST", "W1")
        self.customer("C-1")

    def pool(self, code: str, *locations: str, currency: str = "USD") -> None:
        self.db.execute(
            "INSERT INTO shop.pools (code, name, currency) VALUES (%s, %s, %s)", [code, f"Pool {code}", currency]
        )
        for priority, location in enumerate(locations, start=1):
            self.db.execute(
                "INSERT INTO shop.locations (code, name, pool_id, priority)"
                " SELECT %s, %s, id, %s FROM shop.pools WHERE code = %s",
                [location, f"Location {location}", priority, code],
            )

    def customer(self, number: str) -> None:
        self.db.execute(
            """WITH c AS (INSERT INTO shop.customers (number) VALUES (%s) RETURNING id)
               INSERT INTO shop.addresses (customer_id, code, recipient, street, city, country)
               SELECT id, 'home', 'Ada', 'Street 1', 'City', 'US' FROM c""",
            [number],
        )

    def variant(self, *skus: str, price: int = 100, currency: str = "USD", active: bool = True) -> None:
        for sku in skus:
            self.db.execute(
                """WITH p AS (INSERT INTO shop.products (code, category_id, title)
                       SELECT %(sku)s, id, %(sku)s FROM shop.categories WHERE code = 'CAT' RETURNING id)
                   INSERT INTO shop.product_variants (product_id, sku, title, price_amount, currency, active)
                   SELECT id, %(sku)s, %(sku)s, %(price)s, %(currency)s, %(active)s FROM p""",
                {"sku": sku, "price": price, "currency": currency, "active": active},
            )

    def stock(self, sku: str, location: str, quantity: int, cap: int = 0, threshold: int | None = None) -> None:
        """Opens the stock of a variant, which is made when it is new."""
        if not self.value("SELECT EXISTS (SELECT FROM shop.product_variants WHERE sku = %s)", sku):
            self.variant(sku)
        self.db.execute(
            """SELECT shop.load_stock(ARRAY[v.id], ARRAY[l.id], ARRAY[%s::bigint], ARRAY[%s::bigint], ARRAY[%s::bigint])
               FROM shop.product_variants AS v, shop.locations AS l WHERE v.sku = %s AND l.code = %s""",
            [quantity, cap, threshold, sku, location],
        )

    # Orders

    def place(self, *requests: dict[str, Any]) -> list[Outcome]:
        return self.rows("SELECT api.place_orders(%s)", Jsonb([typed(request) for request in requests]))

    def place_one(self, request: dict[str, Any]) -> Outcome:
        return self.value("SELECT api.place_order(%s)", Jsonb(typed(request)))

    def submit(self, *requests: dict[str, Any]) -> list[Outcome]:
        return self.rows("SELECT api.submit_orders(%s::jsonb)", Jsonb(list(requests)))

    def hold(self, *requests: dict[str, Any], seconds: int = 900) -> list[Outcome]:
        return self.rows("SELECT api.hold_orders(%s, make_interval(secs => %s))", Jsonb(list(requests)), float(seconds))

    def confirm(self, order_id: str, key: str | None = None) -> Outcome:
        return self.value("SELECT api.confirm_order(%s, %s)", key or new_key(), order_id)

    def cancel(self, order_id: str, key: str | None = None, reason: str = "changed their mind") -> Outcome:
        return self.value("SELECT api.cancel_order(%s, %s, %s)", key or new_key(), order_id, reason)

    def complete(self, order_id: str, key: str | None = None) -> Outcome:
        return self.value("SELECT api.complete_order(%s, %s)", key or new_key(), order_id)

    def outcome(self, key: str) -> Outcome | None:
        return self.value("SELECT api.order_outcome(%s)", key)

    # The queue

    def pool_id(self, code: str = "EAST") -> int:
        return self.value("SELECT id FROM shop.pools WHERE code = %s", code)

    def claim(self, pool: str = "EAST", limit: int = 50, lease: int = 60) -> dict[str, Any] | None:
        rows = self.maps("SELECT * FROM api.claim_orders(%s, %s, %s)", self.pool_id(pool), limit, lease)
        return rows[0] if rows else None

    def place_claim(self, claim_id: object) -> list[Outcome]:
        return self.rows("SELECT api.place_claim(%s)", claim_id)

    def drain(self, pool: str = "EAST") -> list[Outcome]:
        """Claims and places until the pool's queue is empty."""
        outcomes: list[Outcome] = []
        while claim := self.claim(pool):
            outcomes += self.place_claim(claim["claim_id"])
        return outcomes

    def expire_claims(self) -> None:
        """As if the drains of all leased claims had died some time ago."""
        self.db.execute(
            "UPDATE shop.claims SET leased_until = clock_timestamp() - interval '1 s' WHERE leased_until IS NOT NULL"
        )

    def sweep(self, attempts: int = 3) -> int:
        return self.value("SELECT api.sweep_claims(100, %s)", attempts)

    # Looking

    def level(self, sku: str, location: str) -> dict[str, int]:
        """The accounts of a level that are not zero."""
        found = self.maps(
            f"""SELECT {", ".join(ACCOUNTS)} FROM shop.stock_levels AS s
                JOIN shop.product_variants AS v ON v.id = s.variant_id JOIN shop.locations AS l ON l.id = s.location_id
                WHERE v.sku = %s AND l.code = %s""",
            sku,
            location,
        )
        return {account: quantity for row in found for account, quantity in row.items() if quantity}

    def status(self, order_id: str) -> str:
        return self.value("SELECT status FROM shop.orders WHERE id = %s", order_id)

    def steps(self, order_id: str) -> list[str]:
        return self.rows("SELECT to_status FROM shop.order_status_history WHERE order_id = %s ORDER BY id", order_id)

    def verify(self) -> list[tuple[Any, ...]]:
        return self.db.execute("SELECT check_name, entry, detail FROM api.verify()").fetchall()

    def count(self, table: str) -> int:
        return self.value(f"SELECT count(*) FROM shop.{table}")

    def value(self, query: str, *arguments: object) -> Any:
        row = self.db.execute(query, arguments).fetchone()
        return row[0] if row else None

    def rows(self, query: str, *arguments: object) -> list[Any]:
        return [row[0] for row in self.db.execute(query, arguments).fetchall()]

    def maps(self, query: str, *arguments: object) -> list[dict[str, Any]]:
        with self.db.cursor(row_factory=psycopg.rows.dict_row) as cursor:
            return cursor.execute(query, arguments).fetchall()


def new_key() -> str:
    return f"key-{secrets.token_hex(8)}"


def order(key: str | None = None, /, *lines: tuple[str, Any], **fields: Any) -> dict[str, Any]:
    """An order request as an application sends it, of C-1 in EAST unless told otherwise."""
    request = {"version": 1, "key": key or new_key(), "customer": "C-1", "pool": "EAST"}
    request["lines"] = [{"sku": sku, "quantity": quantity} for sku, quantity in lines]
    return request | fields


def typed(request: dict[str, Any]) -> dict[str, Any]:
    """The same request as a door passes it on to the placing routines."""
    kept = {name: value for name, value in request.items() if name not in {"version", "lines"}}
    lines: Sequence[dict[str, Any]] = request["lines"]
    return kept | {"skus": [line["sku"] for line in lines], "quantities": [line["quantity"] for line in lines]}


def fingerprint(db: psycopg.Connection[Any]) -> dict[str, str]:
    """A digest of the rows of each table of the shop: equal before and after means that nothing changed."""
    tables = db.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'shop'::regnamespace AND relkind IN ('r', 'p')"
        " AND NOT relispartition ORDER BY relname"
    ).fetchall()
    parts = [
        f"SELECT '{name}', coalesce(md5(string_agg(t::text, ';' ORDER BY t::text)), 'empty') FROM shop.{name} AS t"
        for (name,) in tables
    ]
    return dict(db.execute(" UNION ALL ".join(parts).encode()).fetchall())
