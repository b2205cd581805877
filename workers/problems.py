"""What of the state is a problem: the one list behind `ordermill status`, its exit code, `/healthz` and metrics.

A problem is what keeps orders or what follows them from being done in time. A dead letter, an alert of low stock or a
paused queue waits for a person, and is shown, but is none; what a pause keeps from being done is one.
docs/incidents.md says what to do about each.
"""

from typing import Any

# Chosen, not measured. A commit reaches its consumers in a quarter of a second, an order behind the SQL door likewise.
LAG_SECONDS = 60
QUEUE_SECONDS = 300
ORDERS_SECONDS = 60
PARTITIONS_AHEAD = 3  # of six
CONNECTIONS_USED = 0.9
# A slot may be taken half a cadence after its time, a busy worker come to it later, and a lease have to run out.
LATE_CADENCES, LATE_SECONDS = 1.5, 90
SELDOM_SECONDS = 3_600  # a failed run of a job this seldom is a problem before it is overdue
FIRST_RUN_SECONDS = 700  # each job ticks at least each five minutes

Problem = dict[str, str]


def problems_of(state: dict[str, Any]) -> list[Problem]:
    """Each problem with its name, what it is about, and one line of detail."""
    silent = [_problem("silent", *error.split(": ", 1)) for error in state["errors"]]
    parts = (_queues, _sql_door, _events, _jobs, _partitions, _connections)
    return silent + [problem for part in parts for problem in part(state)]


def is_overdue(job: dict[str, Any], jobs: list[dict[str, Any]]) -> bool:
    """Whether a job has had no success in the slots that have passed; `jobs` tell since when beat is known to work."""
    allowed = LATE_CADENCES * job["cadence_seconds"] + LATE_SECONDS
    if job["since_slot_seconds"] is not None:
        return bool(job["since_slot_seconds"] > allowed)
    known = max((each["known_seconds"] or 0.0 for each in jobs), default=0.0)
    return bool(known > min(allowed, FIRST_RUN_SECONDS))


def _problem(name: str, subject: str, detail: str) -> Problem:
    return {"problem": name, "subject": subject, "detail": detail}


def _queues(state: dict[str, Any]) -> list[Problem]:
    found = []
    for name, queue in (state["queues"] or {}).items():
        waits = f"{queue['waiting']} wait, the oldest for at least {queue['oldest_seconds'] or 0:.0f} s"
        if queue["paused"] or not queue["waiting"]:
            continue
        if not queue["consumers"]:
            found.append(_problem("no_consumer", name, f"no worker consumes this queue; {waits}"))
        elif queue["oldest_seconds"] > QUEUE_SECONDS:
            found.append(_problem("queue_old", name, waits))
    return found


def _sql_door(state: dict[str, Any]) -> list[Problem]:
    pools = state["order_queue"] or []
    old = [
        _problem("orders_old", row["pool"], f"the oldest order of the SQL door waits for {row['oldest_seconds']:.0f} s")
        for row in pools
        if (row["oldest_seconds"] or 0) > ORDERS_SECONDS
    ]
    return old + [
        _problem(
            "too_busy",
            row["pool"],
            f"the SQL door refuses its orders: one would wait {row['expected_wait_seconds']:.1f} s,"
            f" and may wait {row['max_wait_seconds']:.1f} s",
        )
        for row in pools
        if row["max_wait_seconds"] is not None and row["expected_wait_seconds"] > row["max_wait_seconds"]
    ]


def _events(state: dict[str, Any]) -> list[Problem]:
    return [
        _problem("event_lag", row["waits_for"], f"{row['events']} wait, the oldest for {row['lag_seconds']:.0f} s")
        for row in state["events"] or []
        if (row["lag_seconds"] or 0) > LAG_SECONDS
    ]


def _jobs(state: dict[str, Any]) -> list[Problem]:
    found = []
    jobs = state["jobs"] or []
    if jobs and all(job["state"] is None for job in jobs):
        if state["old_orders"][0]["found"]:
            found.append(_problem("job_overdue", "all", "no job has ever run; is beat running?"))
        return found
    for job in jobs:
        ago = job["since_slot_seconds"]
        last = f"last success {ago:.0f} s ago" if ago is not None else "it has never succeeded"
        error = f": {job['error']}" if job["state"] == "failed" and job["error"] else ""
        if job["overdue"]:
            if (state["queues"] or {}).get(job["queue"], {}).get("paused"):
                error = f": its queue {job['queue']} is paused"
            found.append(_problem("job_overdue", job["job"], f"{last}, due each {job['cadence_seconds']:.0f} s{error}"))
        elif job["state"] == "failed" and job["cadence_seconds"] >= SELDOM_SECONDS:
            found.append(_problem("job_failed", job["job"], f"its last run failed{error}"))
    return found


def _partitions(state: dict[str, Any]) -> list[Problem]:
    return [
        _problem("partitions", "partitions", f"made for {row['months_ahead']} months ahead, below {PARTITIONS_AHEAD}")
        for row in state["partitions"] or []
        if row["months_ahead"] < PARTITIONS_AHEAD
    ]


def _connections(state: dict[str, Any]) -> list[Problem]:
    limit = state["connection_limit"]
    if not limit or limit["used"] < CONNECTIONS_USED * limit["usable"]:
        return []
    return [_problem("connections", "PostgreSQL", f"{limit['used']} of {limit['usable']} connections are used")]
