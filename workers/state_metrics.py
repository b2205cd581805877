"""The state of `workers.status` as metrics. Every host's exporter gives the same ones: take the max, not the sum."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from workers.queues import SILENT_SECONDS

# By name: the help; the rows of the state; their labels, and the column that is the value.
_ROWS: dict[str, tuple[str, str, tuple[str, ...], str]] = {
    "order_queue_oldest_seconds": (
        "Age of the oldest order behind the SQL door.",
        *("order_queue", ("pool",), "oldest_seconds"),
    ),
    "events_waiting": ("Events that wait for a position or a consumer.", "events", ("waits_for",), "events"),
    "event_lag_seconds": ("Age of the oldest event that waits.", "events", ("waits_for",), "lag_seconds"),
    "dead_letters_open": ("Dead letters that are not settled.", "dead_letters", ("source", "code"), "letters"),
    "alerts_open": ("Alerts of low stock that are not resolved.", "alerts", ("level",), "alerts"),
    "partitions_ahead_months": ("Months for which partitions are made ahead.", "partitions", (), "months_ahead"),
}
_QUEUES = (
    ("queue_messages", "Messages that wait in a queue.", "waiting"),
    ("queue_oldest_seconds", "For how long the oldest message has waited at least.", "oldest_seconds"),
    ("queue_undecodable", "Items set aside, not yet dead letters.", "undecodable"),
    ("queue_consumers", "Living workers that consume a queue.", "consumers"),
    ("queue_paused", "Whether an operator has paused a queue.", "paused"),
)


def families(state: dict[str, Any]) -> Iterator[Metric]:
    """All of them; what could not be asked is missing, and its server is not up."""
    up = gauge("up", "Whether a server answers.", ("server",))
    for server in ("database", "redis", "broker"):
        up.add_metric([server], float(state[server] is not None))
    yield up
    yield gauge("problems", "How many problems `ordermill status` shows.", value=len(state["problems"]))
    yield from _of_queues(state)
    for name, (words, part, labels, column) in _ROWS.items():
        if state[part] is not None:
            family = gauge(name, words, labels)
            for row in state[part]:
                family.add_metric([str(row[label]) for label in labels], float(row[column] or 0))
            yield family
    if state["order_queue"] is not None:
        orders = gauge("order_queue_orders", "Orders behind the SQL door: waiting, or claimed.", ("pool", "state"))
        for row in state["order_queue"]:
            orders.add_metric([row["pool"], "waiting"], row["waiting"])
            orders.add_metric([row["pool"], "claimed"], row["claimed"])
        yield orders
    if state["connections"] is not None:
        yield _of_connections(state["connections"])
    if limit := state["connection_limit"]:
        yield gauge("connections_used", "Connections to PostgreSQL, of all databases.", value=limit["used"])
        yield gauge("connections_usable", "How many there can be.", value=limit["usable"])
    yield from _of_jobs(state)
    yield from _of_cache(state)


def _of_connections(rows: list[dict[str, Any]]) -> Metric:
    # Any client may call itself what it likes: a label of each such name would be a series of each.
    counted: Counter[tuple[str, str]] = Counter()
    for row in rows:
        ours = row["application"].startswith("ordermill")
        counted[row["application"] if ours else "other", row["state"]] += row["connections"]
    family = gauge("connections", "Connections to this database.", ("application", "state"))
    for labels, connections in counted.items():
        family.add_metric(labels, connections)
    return family


def _of_queues(state: dict[str, Any]) -> Iterator[Metric]:
    if state["queues"] is None:
        return
    for name, words, column in _QUEUES:
        family = gauge(name, words, ("queue",))
        for queue, row in state["queues"].items():
            family.add_metric([queue], float(row[column] or 0))
        yield family
    in_hand = gauge("messages_in_hand", "Messages that workers have taken and not acknowledged.", ("queue",))
    for name, count in state["in_hand"].items():
        in_hand.add_metric([name], count)
    yield in_hand
    living = sum(worker["silent_seconds"] <= SILENT_SECONDS for worker in state["workers"])
    yield gauge("workers", "Workers that have reported lately.", value=living)


def _of_jobs(state: dict[str, Any]) -> Iterator[Metric]:
    if state["jobs"] is None:
        return
    slot = gauge("job_success_slot_timestamp_seconds", "The slot of a job's last success.", ("job",))
    overdue = gauge("job_overdue", "Whether a job has had no success in the slots that have passed.", ("job",))
    failed = gauge("job_failed", "Whether a job's last run failed.", ("job",))
    for job in state["jobs"]:
        if job["succeeded_slot"]:
            slot.add_metric([job["job"]], job["succeeded_slot"].timestamp())
        overdue.add_metric([job["job"]], float(job["overdue"]))
        failed.add_metric([job["job"]], float(job["state"] == "failed"))
    yield from (slot, overdue, failed)


def _of_cache(state: dict[str, Any]) -> Iterator[Metric]:
    cache = state["cache"]
    if not cache:
        return
    yield gauge("cache_up", "Whether the cache answers.", value=float(cache["answers"]))
    if cache["answers"]:
        reads = CounterMetricFamily("ordermill_cache_reads", "Reads through the cache.", labels=("kind", "result"))
        for kind, counts in cache["kinds"].items():
            for result in ("hits", "misses"):
                reads.add_metric([kind, result], counts[result])
        yield reads
        yield gauge("cache_entries", "Entries in the cache's database.", value=cache["entries"])
        yield gauge("cache_memory_bytes", "Memory of the cache's server.", value=cache["memory_bytes"])


def gauge(name: str, words: str, labels: tuple[str, ...] = (), value: float | None = None) -> GaugeMetricFamily:
    """A gauge of this name, with its value or without samples yet."""
    return GaugeMetricFamily(f"ordermill_{name}", words, value=value, labels=None if value is not None else labels)
