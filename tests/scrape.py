"""What the tests of metrics share: an exporter in this process over given servers, and what it serves as numbers."""

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from workers.exporter import server
from workers.settings import Settings


class Scrape:
    """An exporter that serves."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"

    def get(self, path: str) -> str:
        with urllib.request.urlopen(self.address + path, timeout=30) as answer:  # noqa: S310  # ours
            return str(answer.read().decode())

    def text(self) -> str:
        return self.get("/metrics")

    def value(self, name: str, **labels: str) -> float:
        """The sum of the samples of this name that have these labels."""
        return samples(self.text()).value(name, **labels)

    def health(self) -> tuple[int, dict[str, Any]]:
        """The status code of /healthz, and what it says."""
        try:
            return 200, json.loads(self.get("/healthz"))
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)


class Samples:
    """One scrape."""

    def __init__(self, text: str) -> None:
        self.families = list(text_string_to_metric_families(text))
        self.all = [sample for family in self.families for sample in family.samples]

    def value(self, name: str, **labels: str) -> float:
        return sum(
            sample.value for sample in self.all if sample.name == name and labels.items() <= sample.labels.items()
        )


def samples(text: str) -> Samples:
    return Samples(text)


@contextmanager
def exporting(database_url: str, redis_url: str, broker_url: str, folder: Path | None = None) -> Iterator[Scrape]:
    settings = Settings(
        database_url=database_url,
        redis_url=redis_url,
        broker_url=broker_url,
        metrics_dir=folder,
        cache_timeout_ms=5_000,  # on a busy machine it may be slow, and is not away
    )
    with server(settings, "127.0.0.1", 0) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield Scrape(made.server_address[1])
        finally:
            made.shutdown()
            thread.join()
