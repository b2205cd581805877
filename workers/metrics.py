"""What workers count of themselves, kept in files that outlive a process, for `workers.exporter` to add up.

Each process has a slot of its own in ORDERMILL_METRICS_DIR, held by a lock that the kernel lets go when it dies. The
next process takes the slot over and counts on in its file: nothing is lost with a killed worker, nothing is counted
twice, and there are never more files than there were processes at once. Without the setting nothing is counted.
"""

import fcntl
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

FORM = "1"  # a change of names, labels or buckets takes a new folder
MOST_SLOTS = 1024
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
JOB_SECONDS = (0.01, 0.1, 1, 5, 30, 120, 600)
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500)


class Slots:
    """The slots of a folder; calling it gives the one of this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process, self.slot, self.descriptor = 0, 0, -1

    def __call__(self) -> int:
        """The number of this process's slot, which no living process shares; a fork has another than its parent."""
        if self.process != os.getpid():
            if self.descriptor >= 0:
                os.close(self.descriptor)  # the parent still has it
            self.slot, self.descriptor = self._take()
            self.process = os.getpid()
        return self.slot

    def _take(self) -> tuple[int, int]:
        for slot in range(MOST_SLOTS):
            descriptor = locked(self.folder / f"slot_{slot}.lock")
            if descriptor is not None:
                return slot, descriptor
        raise OSError(f"all {MOST_SLOTS} slots of {self.folder} are taken")

    def free(self) -> Iterator[int]:
        """Each slot that nobody has, held while it is looked at."""
        for path in self.folder.glob("slot_*.lock"):
            descriptor = locked(path)
            if descriptor is not None:
                try:
                    yield int(path.stem.removeprefix("slot_"))
                finally:
                    os.close(descriptor)


def locked(path: Path) -> int | None:
    """A descriptor that has this file locked; None when another has."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


class Instruments:
    """The metrics themselves."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Gauge, Histogram  # noqa: PLC0415  # only where it is wanted
        from prometheus_client import Counter as Count  # noqa: PLC0415

        own: dict[str, Any] = {"registry": CollectorRegistry()}
        self.requests = Count("ordermill_requests", "Answers given, by task and outcome.", ["task", "outcome"], **own)
        self.request_seconds = Histogram(
            "ordermill_request_seconds",
            "From when a worker began with a request to its answer; not the time in the queue.",
            ["task"],
            buckets=SECONDS,
            **own,
        )
        self.batch = Histogram(
            "ordermill_batch_requests", "Requests decided in one batch.", ["task"], buckets=SIZES, **own
        )
        self.returned = Count(
            "ordermill_requests_returned", "Requests given back to their queue, to be tried again.", ["task"], **own
        )
        self.retries = Count(
            "ordermill_retries",
            "Transactions tried again in place, by SQLSTATE (none: no connection).",
            ["sqlstate"],
            **own,
        )
        self.job_runs = Count("ordermill_job_runs", "Runs of jobs, by how they ended.", ["job", "result"], **own)
        self.job_seconds = Histogram(
            "ordermill_job_seconds", "How long runs of jobs took.", ["job"], buckets=JOB_SECONDS, **own
        )
        self.pool = Gauge(
            "ordermill_pool_connections",
            "Connections of living workers to PostgreSQL: in use, idle in a pool, or detached: a job's own.",
            ["state"],
            multiprocess_mode="livesum",
            **own,
        )


_kept: Instruments | None = None


def begin(folder: Path | None) -> None:
    """From now on this process, and what it forks, counts; raises OSError when the folder cannot be used."""
    global _kept  # noqa: PLW0603
    if folder is None or _kept is not None:
        return
    place = form_of(folder)
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    from prometheus_client import values  # noqa: PLC0415

    # The library reads it when it makes a file. Flower, which has metrics of its own, never comes here.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(place)
    values.ValueClass = values.MultiProcessValue(Slots(place))  # type: ignore[no-untyped-call]
    _kept = Instruments()


def form_of(folder: Path) -> Path:
    """Where in the folder the files of this version are."""
    return folder / FORM


def answered(task: str, answers: Iterable[Any], seconds: float, batch: bool = False) -> None:
    """Counts the outcomes of requests that were decided together, in so many seconds."""
    if _kept is None:
        return
    outcomes = Counter(outcome_of(answer) for answer in answers)
    for outcome, count in outcomes.items():
        _kept.requests.labels(task, outcome).inc(count)
    took = _kept.request_seconds.labels(task)
    for _ in range(outcomes.total()):
        took.observe(seconds)
    if batch:
        _kept.batch.labels(task).observe(outcomes.total())


def outcome_of(answer: Any) -> str:
    """The outcome in an answer, as a label."""
    return str(answer.get("status", "done")) if isinstance(answer, dict) else "done"


def failed(task: str) -> None:
    """Counts a request that ended with a bug."""
    if _kept is not None:
        _kept.requests.labels(task, "failed").inc()


def returned(task: str, count: int = 1) -> None:
    """Counts requests that went back to their queue."""
    if _kept is not None and count:
        _kept.returned.labels(task).inc(count)


def retried(error: BaseException) -> None:
    """Counts a transaction that is tried again, by the state with which it failed."""
    if _kept is not None:
        _kept.retries.labels(getattr(error, "sqlstate", None) or "none").inc()


def job_ended(job: str, result: str, seconds: float) -> None:
    """Counts a run of a job: succeeded or failed."""
    if _kept is not None:
        _kept.job_runs.labels(job, result).inc()
        _kept.job_seconds.labels(job).observe(seconds)


def pool_is(states: Iterable[str]) -> None:
    """Notes in which state each of this process's connections is."""
    if _kept is not None:
        counted = Counter(states)
        for state in ("in_use", "idle", "detached"):
            _kept.pool.labels(state).set(counted[state])
