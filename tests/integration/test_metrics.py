"""What workers count, as Prometheus has it: from real workers, killed and started anew."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scrape import Scrape, exporting, samples
from tests.shop import order
from tests.workers_fixtures import Mill, clean_environment, kill, ready
from workers.child import Child, wait_until
from workers.metrics import form_of


@pytest.fixture(scope="module")
def counting(module_mill: Mill) -> Iterator[tuple[Mill, Scrape]]:
    """Two orders workers and a prefork worker that count, and an exporter."""
    folder = module_mill.folder / "metrics"
    module_mill.env |= {"ORDERMILL_METRICS_DIR": str(folder), "ORDERMILL_LOCK_TIMEOUT_MS": "300"}
    # What another worker takes for a dead one's is answered, and counted, again.
    module_mill.env["ORDERMILL_VISIBILITY_TIMEOUT"] = "60"
    started = [module_mill.begin_orders_worker(), module_mill.begin_orders_worker()]
    started.append(module_mill.start_worker("general", "inventory,maintenance,celery", "-c", "2"))
    for child in started:
        ready(child)
    module_mill.shop.stock("COUNTED", "E1", 1_000)
    with exporting(module_mill.database_url, module_mill.redis_url, module_mill.broker_url, folder) as scrape:
        yield module_mill, scrape


@pytest.fixture
def mill(counting: tuple[Mill, Scrape], mill: Mill) -> Mill:
    return mill


@pytest.fixture
def scrape(counting: tuple[Mill, Scrape]) -> Scrape:
    return counting[1]


def place(mill: Mill, good: int, bad: int) -> None:
    """So many orders that are placed and that are rejected, decided when it returns."""
    requests = [order(None, ("COUNTED", 1)) for _ in range(good)] + [order(None, ("NOBODY", 1)) for _ in range(bad)]
    for request in requests:
        mill.send("orders.place", request, ignore_result=True)
    assert mill.all_decided(requests)
    assert wait_until(lambda: not mill.broker.exists("orders", "orders.unacked"), 30)


def counts(worker: Child) -> bool:
    """Whether this process has its files: it makes them when it first counts."""
    assert worker.process
    opened = Path(f"/proc/{worker.process.pid}/fd").iterdir()
    return any(os.path.realpath(each).endswith(".db") for each in opened)


def decided(mill: Mill, status: str) -> int:
    counted = "SELECT count(*) FROM shop.request_keys WHERE status = %s AND kind LIKE 'order%%'"
    return int(mill.shop.value(counted, status))


def test_the_counts_of_two_orders_workers_and_a_prefork_worker_add_up(mill: Mill, scrape: Scrape) -> None:
    mill.living(2)
    before = samples(scrape.text())
    place(mill, good=150, bad=30)
    one_more = {"sku": "COUNTED", "location": "E1", "quantity": 1, "reason": "count"}
    adjusted = [mill.call("inventory.adjust", one_more, queue=None) for _ in range(6)]

    seen = samples(scrape.text())

    def more(name: str, **labels: str) -> float:
        return seen.value(name, **labels) - before.value(name, **labels)

    assert [answer["status"] for answer in adjusted] == ["done"] * 6
    assert seen.value("ordermill_requests_total", task="orders.place", outcome="placed") == decided(mill, "placed")
    assert seen.value("ordermill_requests_total", task="orders.place", outcome="rejected") == decided(mill, "rejected")
    assert more("ordermill_requests_total", task="inventory.adjust", outcome="done") == 6
    assert more("ordermill_request_seconds_count", task="orders.place") == 180
    assert more("ordermill_request_seconds_bucket", task="orders.place", le="+Inf") == 180
    assert more("ordermill_batch_requests_sum", task="orders.place") <= 180
    assert more("ordermill_request_seconds_sum", task="orders.place") > 0


def test_a_killed_workers_counts_are_neither_lost_nor_doubled_and_its_slot_is_taken_over(
    mill: Mill, scrape: Scrape
) -> None:
    assert wait_until(lambda: place(mill, good=20, bad=0) or all(map(counts, mill.living(2))), 60)
    before = decided(mill, "placed")
    files = len(list(form_of(mill.folder / "metrics").glob("*.db")))
    for worker in mill.living(2):
        kill(worker)

    assert scrape.value("ordermill_requests_total", task="orders.place", outcome="placed") == before
    mill.living(2)
    place(mill, good=20, bad=0)

    assert scrape.value("ordermill_requests_total", task="orders.place", outcome="placed") == before + 20
    assert len(list(form_of(mill.folder / "metrics").glob("*.db"))) <= files


def test_connections_of_a_killed_worker_are_no_longer_counted(mill: Mill, scrape: Scrape) -> None:
    place(mill, good=2, bad=0)
    for worker in mill.living(2):
        kill(worker)
    remaining = scrape.value("ordermill_pool_connections")

    place_with = mill.living(1)
    place(mill, good=1, bad=0)

    assert place_with
    assert scrape.value("ordermill_pool_connections") == remaining + 1


def test_a_transaction_that_is_tried_again_is_counted_by_its_sqlstate(mill: Mill, scrape: Scrape) -> None:
    mill.living(1)
    request = order(None, ("COUNTED", 1))
    with mill.locked_stock("COUNTED"):
        mill.send("orders.place", request)
        assert wait_until(lambda: scrape.value("ordermill_retries_total", sqlstate="55P03") >= 1, 30, 0.2)

    assert mill.all_decided([request])


def test_a_job_is_counted_by_how_it_ended_and_shown_with_its_slot(mill: Mill, scrape: Scrape) -> None:
    mill.send("maintenance.ensure_partitions", queue="maintenance", kwargs={"cadence": 3600.0})

    def timed() -> bool:  # which is written last
        return scrape.value("ordermill_job_seconds_count", job="maintenance.ensure_partitions") == 1

    assert wait_until(timed, 30, 0.2)
    assert scrape.value("ordermill_job_runs_total", job="maintenance.ensure_partitions", result="succeeded") == 1


def test_a_file_that_a_full_disk_cut_short_costs_only_itself(mill: Mill, scrape: Scrape) -> None:
    mill.living(1)
    place(mill, good=1, bad=0)
    before = scrape.value("ordermill_requests_total")
    broken = {"counter_997.db": b"", "counter_998.db": b"\xff\xff\xff\x7f", "histogram_999.db": b"\x10\x27\x00\x00" * 9}
    for name, content in broken.items():
        (form_of(mill.folder / "metrics") / name).write_bytes(content)

    assert scrape.value("ordermill_requests_total") == before > 0


def test_a_worker_without_the_setting_counts_nothing_and_imports_nothing_for_it(tmp_path: Path) -> None:
    code = "import sys, workers.app, workers.metrics as m; m.begin(None); m.retried(OSError()); print(m._kept)"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; print('prometheus_client.values' in sys.modules)"],
        env=clean_environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.split() == ["None", "False"]
