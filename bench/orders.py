"""The shop that every bench works on, and seeded orders for it: 2,000 skus of plenty, 500 customers, 3 lines each."""

import random
from typing import Any

VARIANTS, CUSTOMERS, LINES = 2_000, 500, 3
CATALOG = f"""
    INSERT INTO shop.categories (code, name) VALUES ('bench', 'Bench');
    INSERT INTO shop.products (code, category_id, title) VALUES ('bench', 1, 'Bench');
    INSERT INTO shop.product_variants (product_id, sku, title, price_amount, currency)
    SELECT 1, 'S' || i, 'S' || i, 100 + i, 'USD' FROM generate_series(1, {VARIANTS}) AS i;
    INSERT INTO shop.customers (number) SELECT 'C' || i FROM generate_series(1, {CUSTOMERS}) AS i;
    INSERT INTO shop.pools (code, name, currency) VALUES ('P', 'P', 'USD');
    INSERT INTO shop.locations (code, name, pool_id, priority) VALUES ('P1', 'P1', 1, 1), ('P2', 'P2', 1, 2);
    SELECT shop.load_stock(array_agg(v), array_agg(l), array_agg(1000000::bigint), array_agg(0::bigint),
        array_agg(5::bigint)) FROM generate_series(1, {VARIANTS}) AS v, generate_series(1, 2) AS l"""  # noqa: S608


class Orders:
    """New orders, each with its key; the same ones for the same seed."""

    def __init__(self, seed: int = 7, prefix: str = "b") -> None:
        self.random = random.Random(seed)  # noqa: S311
        self.prefix = prefix
        self.made = 0

    def typed(self) -> dict[str, Any]:
        """A new order as the placing routines take it."""
        self.made += 1
        skus = [f"S{self.random.randint(1, VARIANTS)}" for _ in range(LINES)]
        customer = f"C{self.random.randint(1, CUSTOMERS)}"
        key = f"{self.prefix}{self.made}"
        return {"key": key, "customer": customer, "pool": "P", "skus": skus, "quantities": [1] * LINES}

    def request(self) -> dict[str, Any]:
        """A new order as an application sends it."""
        order = self.typed()
        lines = [{"sku": sku, "quantity": 1} for sku in order.pop("skus")]
        del order["quantities"]
        return {"version": 1, **order, "lines": lines}
