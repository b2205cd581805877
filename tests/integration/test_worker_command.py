"""`ordermill worker`: Celery's worker, without what Celery's command line would keep in its memory."""

import signal
import subprocess
import sys

from tests.shop import order
from tests.workers_fixtures import Mill, clean_environment
from workers.child import Child, wait_until

LISTED = """
import sys
import workers.worker
from workers.app import app
app.loader.import_default_modules()
print(*{name.partition(".")[0] for name in sys.modules})
"""


def test_it_places_orders_and_starts_again_upon_sighup(mill: Mill, sku: str) -> None:
    child = Child(
        name="light",
        command=[sys.executable, "-m", "workers.entry", "worker", "-Q", "orders", "-P", "solo", "-l", "INFO",
                 "--without-mingle", f"--workdir={mill.folder}"],
        mark=f"--workdir={mill.folder}",
        log=mill.folder / "light.log",
        pid_file=mill.folder / "light.pid",
        env=clean_environment() | mill.env,
        cwd=mill.folder,
    )  # fmt: skip

    def ready(times: int) -> bool:
        child.check()
        return child.log.read_text().count(" ready.") == times

    child.start()
    mill.children.append(child)
    assert wait_until(lambda: ready(1), 90)
    assert mill.call("orders.place", order(None, (sku, 1)))["status"] == "placed"
    child.ask(signal.SIGHUP)
    assert wait_until(lambda: ready(2), 90)
    assert mill.call("orders.place", order(None, (sku, 1)))["status"] == "placed"


def test_a_worker_of_orders_imports_no_shell_no_flower_and_nothing_of_other_queues() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LISTED], env=clean_environment(), capture_output=True, text=True, check=True, timeout=60
    )

    assert not {"prompt_toolkit", "flower", "prometheus_client", "urllib3", "dogpile"} & set(done.stdout.split())
    assert {"tasks", "celery"} <= set(done.stdout.split())


def test_that_it_does_not_detach_is_said() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "workers.entry", "worker", "--detach"],
        env=clean_environment(), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip

    assert done.returncode == 1
    assert done.stderr.startswith("ordermill worker stays in the foreground")
