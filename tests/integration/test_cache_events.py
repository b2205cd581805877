"""What is cached and what makes it stale: the catalog's events, and what the consumer `cache` deletes for them."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

import workers.cache
from tests.shop import Shop, order
from workers.cache import Cache, cache
from workers.cache_events import handle
from workers.database import connect
from workers.settings import get_settings

Change = dict[str, Any]


@pytest.fixture
def quiet(scratch: Shop) -> Shop:
    """A shop with a sku `A`, a category below `CAT`, and an empty inbox."""
    scratch.stock("A", "E1", 10, cap=5)
    scratch.db.execute(
        "INSERT INTO shop.categories (code, name, parent_id) SELECT 'BELOW', 'Below', id FROM shop.categories"
    )
    scratch.db.execute("DELETE FROM shop.events_inbox")
    return scratch


def told(shop: Shop, statement: str = "") -> list[Change]:
    """What the catalog's events since the last time said, after this statement."""
    if statement:
        shop.db.execute(statement.encode())
    found = shop.rows("SELECT payload FROM shop.events_inbox WHERE kind = 'catalog.changed' ORDER BY seq")
    shop.db.execute("DELETE FROM shop.events_inbox")
    return found


def names(products: str = "", skus: str = "", categories: str = "") -> list[Change]:
    return [{"products": products.split(), "skus": skus.split(), "categories": categories.split()}]


EVERYTHING = [{"everything": True}]
CHANGES = {
    "UPDATE shop.products SET title = 'new' WHERE code = 'A'": names(products="A A", categories="CAT"),
    "UPDATE shop.products SET code = 'Z' WHERE code = 'A'": names(products="Z A", categories="CAT"),
    "UPDATE shop.products SET category_id = (SELECT id FROM shop.categories WHERE code = 'BELOW')": names(
        products="A A", skus="A", categories="CAT BELOW"
    ),
    "INSERT INTO shop.products (code, category_id, title) SELECT 'P', min(id), 'P' FROM shop.categories": names(
        products="P", categories="CAT"
    ),
    "UPDATE shop.stock_levels SET held = held": [],
    "INSERT INTO shop.stock_levels (variant_id, location_id, oversell_cap) SELECT v.id, l.id, 50"
    " FROM shop.product_variants AS v, shop.locations AS l WHERE l.code = 'W1'": names(skus="A"),
    "UPDATE shop.product_variants SET price_amount = 1": names(products="A", skus="A"),
    "UPDATE shop.product_variants SET sku = 'Z'": names(products="A", skus="Z A"),
    "UPDATE shop.categories SET name = 'new' WHERE code = 'BELOW'": names(categories="BELOW CAT"),
    "UPDATE shop.categories SET name = 'new' WHERE code = 'CAT'": names(categories="BELOW CAT"),
    "DELETE FROM shop.categories WHERE code = 'BELOW'": names(categories="BELOW CAT"),
    "UPDATE shop.categories SET low_stock_threshold = 3": EVERYTHING,
    "UPDATE shop.categories SET code = 'Z' WHERE code = 'CAT'": EVERYTHING,
    "UPDATE shop.stock_levels SET oversell_cap = 9": EVERYTHING,
    "UPDATE shop.stock_levels SET low_stock_threshold = 9": EVERYTHING,
    "UPDATE shop.locations SET pool_id = pool_id": EVERYTHING,
    "UPDATE shop.pools SET code = lower(code)": EVERYTHING,
    "UPDATE shop.products SET title = 'new' WHERE code = 'none'": [],
    "UPDATE shop.locations SET name = 'new'": [],
}


@pytest.mark.parametrize("statement", CHANGES)
def test_a_statement_of_the_owner_tells_in_one_event_what_it_touched(quiet: Shop, statement: str) -> None:
    def sorted_names(changes: list[Change]) -> list[Change]:
        return [{what: sorted(each) if isinstance(each, list) else each for what, each in c.items()} for c in changes]

    assert sorted_names(told(quiet, statement)) == sorted_names(CHANGES[statement])


def test_a_product_that_is_deleted_is_told_with_its_variants(quiet: Shop) -> None:
    quiet.variant("GONE")
    told(quiet)

    assert told(quiet, "DELETE FROM shop.product_variants WHERE sku = 'GONE'") == names(products="GONE", skus="GONE")
    assert told(quiet, "DELETE FROM shop.products WHERE code = 'GONE'") == names(products="GONE", categories="CAT")


def test_a_load_of_thousands_is_one_event_that_names_none(quiet: Shop) -> None:
    assert (
        told(
            quiet,
            """INSERT INTO shop.products (code, category_id, title)
               SELECT 'P' || n, p.category_id, 'P' FROM generate_series(1, 1001) AS n, shop.products AS p""",
        )
        == EVERYTHING
    )


def test_commands_tell_whose_stock_they_moved_and_once(quiet: Shop) -> None:
    quiet.stock("B", "E1", 1)
    quiet.stock("A", "E2", 1)  # a level that is new tells that itself
    told(quiet)
    lines = psycopg.types.json.Jsonb([{"sku": "A", "quantity": 1}, {"sku": "B", "quantity": 2}])

    for _ in range(2):
        quiet.value("SELECT api.adjust_inventory('k1', 'A', 'E1', -1, 'count')")
        quiet.value("SELECT api.receive_stock('k2', 'E1', %s)", lines)
        quiet.value("SELECT api.transfer_stock('k3', 'A', 'E1', 'E2', 1)")
        quiet.value("SELECT api.adjust_inventory('k4', 'A', 'E1', -100, 'too much')")

    first, second, third = told(quiet)
    assert [first] == [third] == names(skus="A")
    assert sorted(second["skus"]) == ["A", "B"]


def test_an_order_writes_nothing_for_the_cache(quiet: Shop) -> None:
    [placed] = quiet.place(order(None, ("A", 1)))
    [held] = quiet.hold(order(None, ("A", 1)))
    quiet.confirm(held["order_id"])
    quiet.cancel(placed["order_id"])

    assert told(quiet) == []


def test_the_skus_of_orders_are_those_whose_stock_they_took(quiet: Shop) -> None:
    quiet.stock("B", "E1", 1)
    quiet.stock("C", "E1", 1)
    placed = quiet.place(order(None, ("A", 12), ("B", 1)), order(None, ("A", 1)), order(None, ("C", 1)))
    ids = [each["order_id"] for each in placed]

    assert sorted(quiet.value("SELECT api.ordered_skus(%s::uuid[])", ids[:2])) == ["A", "B"]
    assert quiet.value("SELECT api.ordered_skus('{}')") == []


def test_best_sellers_are_those_of_the_last_days_most_first(quiet: Shop) -> None:
    for sku in ("B", "C"):
        quiet.stock(sku, "E1", 50)
    quiet.place(order(None, ("C", 30)), order(None, ("A", 2)), order(None, ("A", 2)), order(None, ("B", 3)))

    def best(*arguments: object) -> list[tuple[Any, ...]]:
        return quiet.db.execute("SELECT sku, quantity FROM api.best_sellers(%s, %s)", arguments).fetchall()

    assert best("7 days", 10) == [("C", 30), ("A", 4), ("B", 3)]
    assert best("7 days", 1) == [("C", 30)]
    assert best("0 s", 10) == []


def test_what_is_read_is_bounded(quiet: Shop) -> None:
    quiet.db.execute(
        """INSERT INTO shop.products (code, category_id, title)
           SELECT 'P' || n, c.id, 'P' FROM generate_series(1, 1200) AS n, shop.categories AS c WHERE c.code = 'CAT'"""
    )
    quiet.db.execute(
        """INSERT INTO shop.product_variants (product_id, sku, title, price_amount, currency)
           SELECT id, 'V' || n, '', 1, 'USD' FROM generate_series(1, 600) AS n, shop.products WHERE code = 'A'"""
    )

    [category] = quiet.value("SELECT api.read_categories('{CAT}')")
    [product] = quiet.value("SELECT api.read_products('{A}')")

    assert (len(category["products"]), category["product_count"]) == (1000, 1201)
    assert category["children"] == [{"code": "BELOW", "name": "Below"}]
    assert len(product["variants"]) == 500
    assert quiet.value("SELECT api.read_categories('{BELOW,none}')")[0]["parent"] == {"code": "CAT", "name": "All"}
    assert quiet.value("SELECT api.read_availability('{}')") == []


@pytest.mark.parametrize("role", ["ordermill_app", "ordermill_reader", "ordermill_worker"])
def test_an_application_may_read_by_sql(quiet: Shop, role: str) -> None:
    quiet.db.execute(f"SET LOCAL ROLE {role}".encode())
    try:
        assert quiet.value("SELECT api.read_products('{A}')")[0]["code"] == "A"
        assert quiet.value("SELECT api.read_availability('{A}')")[0]["pools"][0]["can_order"] == 15
        assert quiet.value("SELECT api.read_categories('{CAT}')")[0]["products"] == ["A"]
    finally:
        quiet.db.execute("SET LOCAL ROLE ordermill_owner")


class Window:
    """A shop whose reads are cached, and whose events are given to the consumer by hand."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop

    def give(self) -> None:
        self.shop.value("SELECT api.sequence_events()")
        events = self.shop.maps("SELECT * FROM api.read_events('cache', 500)")
        if events:
            handle(events)
            self.shop.value("SELECT api.advance_consumer('cache', %s, %s)", events[0]["after"], events[-1]["position"])

    def fresh(self, kind: str, name: str) -> bool:
        """Whether the next read of this was one of PostgreSQL, as it is after a deletion."""
        return cache().read(kind, [name]).loaded == 1

    def sees(self, sku: str = "A") -> int:
        [item] = cache().read("availability", [sku]).values
        return sum(pool["available"] for pool in item["pools"])


@pytest.fixture
def window(runtime: None, redis_url: str, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("ORDERMILL_CACHE_URL", redis_url)
    monkeypatch.setenv("ORDERMILL_CACHE_TIMEOUT_MS", "5000")
    get_settings.cache_clear()
    workers.cache.forget()
    shop.stock("A", "E1", 10)
    shop.stock("B", "E1", 10)
    made = Window(shop)
    made.give()
    yield made
    workers.cache.forget()


def test_each_step_of_an_order_that_takes_or_gives_stock_deletes_what_was_read_of_it(window: Window) -> None:
    shop = window.shop
    assert (window.sees("A"), window.sees("B")) == (10, 10)

    [placed] = shop.place(order(None, ("A", 1)))
    window.give()
    assert window.sees() == 9
    [held] = shop.hold(order(None, ("A", 2)))
    window.give()
    assert window.sees() == 7
    shop.db.execute("UPDATE shop.order_allocations SET expires_at = now() - interval '1 s' WHERE state = 'held'")
    shop.value("SELECT api.expire_holds()")
    window.give()
    assert window.sees() == 9
    shop.cancel(placed["order_id"])
    window.give()
    assert window.sees() == 10
    [held] = shop.hold(order(None, ("A", 2)))
    window.give()
    assert window.sees() == 8
    shop.confirm(held["order_id"])
    window.give()

    assert not window.fresh("availability", "A")  # what was held is now committed: no less can be ordered
    assert not window.fresh("availability", "B")  # nobody touched it


def test_what_the_catalog_tells_is_deleted_and_nothing_else(window: Window) -> None:
    shop = window.shop
    for name in ("A", "B"):
        window.fresh("product", name)
    window.fresh("category", "CAT")
    assert window.fresh("product", "NEW")
    assert window.fresh("availability", "NEW")

    shop.db.execute("UPDATE shop.product_variants SET price_amount = 7 WHERE sku = 'A'")
    shop.variant("NEW")
    window.give()

    assert cache().read("product", ["A"]).values[0]["variants"][0]["price_amount"] == 7
    assert not window.fresh("product", "B")
    assert window.fresh("product", "NEW")
    assert window.fresh("availability", "NEW")
    assert window.fresh("category", "CAT")


def test_a_change_that_may_concern_everything_voids_everything(window: Window) -> None:
    window.sees()
    window.shop.db.execute("UPDATE shop.stock_levels SET low_stock_threshold = 50")
    window.give()

    assert cache().read("availability", ["A"]).values[0]["pools"][0]["low"] is True


def test_events_given_twice_or_of_kinds_and_forms_unknown_do_no_harm(window: Window) -> None:
    shop = window.shop
    shop.place(order(None, ("A", 1)))
    shop.value("SELECT api.sequence_events()")
    events = shop.maps("SELECT * FROM api.read_events('cache', 500)")

    for _ in range(2):
        handle(events)
        assert window.sees() == 9
    handle([{"kind": kind, "payload": {}} for kind in ("order.placed", "catalog.changed", "x.y")])


def test_whatever_was_read_and_written_at_once_in_the_end_the_cache_agrees_with_the_shop(window: Window) -> None:
    shop, ended = window.shop, threading.Event()

    looks = [0, 0, 0]

    def look(number: int) -> None:
        other = Cache(get_settings())
        while not ended.is_set():
            other.read("availability", ["A", "B"])
            looks[number] += 1

    def give() -> None:
        with connect(get_settings().database_url) as session:
            session.execute("SET ROLE ordermill_owner")
            feeding = Window(Shop(session))
            while not ended.is_set():
                feeding.give()

    with ThreadPoolExecutor(4) as pool:
        others = [pool.submit(give), *(pool.submit(look, number) for number in range(3))]
        changes = 0
        while changes < 50 or min(looks) < 50:
            for sku in "AB":
                shop.value("SELECT api.adjust_inventory(%s, %s, 'E1', 1, 'x')", f"{sku}{changes}", sku)
            changes += 1
            assert not any(other.done() for other in others)
        ended.set()
        for other in others:
            other.result(60)
    window.give()

    assert (window.sees("A"), window.sees("B")) == (10 + changes, 10 + changes)
