"""How `ordermill status` shows the state: tables that fit 80 columns, problems last, where they are seen."""

from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from workers.misspelt import meant
from workers.queue_names import ALL_QUEUES
from workers.timetable import span


def show(state: dict[str, Any], console: Console) -> None:
    """The whole state."""
    version = state["database"]
    servers = _table("Servers", "server", "answers")
    servers.add_row("PostgreSQL", f"{version // 10000}.{version % 10000}" if version else "[red]no[/]")
    servers.add_row("Redis", state["redis"] or "[red]no[/]")
    servers.add_row("Broker", state["broker"] or "[red]no[/]")
    console.print(servers)
    if state["queues"] is not None:
        _show_queues(state, console)
    show_pools(state["order_queue"], console)
    _show_rows(console, "Orders of the last day", state.get("orders_last_day"), ("status", "orders"))
    _show_rows(console, "Waiting events", state["events"], ("waits_for", "events", "waits_since"))
    _show_rows(console, "Open dead letters", state["dead_letters"], ("source", "code", "letters"))
    _show_rows(console, "Open alerts of low stock", state["alerts"], ("level", "alerts"))
    if state["jobs"] is not None:
        _show_jobs(state["jobs"], console)
    if state["partitions"]:
        console.print(f"Partitions: made for {state['partitions'][0]['months_ahead']} months ahead")
    if limit := state["connection_limit"]:
        console.print(f"Connections: {limit['used']} of {limit['usable']} (max_connections {limit['max_connections']})")
        names = ("application", "state", "connections")
        _show_rows(console, "Connections to this database", state["connections"], names)
    if cache := state["cache"]:
        ratio = "-" if cache["hit_ratio"] is None else f"{cache['hit_ratio']:.1%}"
        console.print(f"Cache: {'answers' if cache['answers'] else '[red]away[/]'}, hit ratio {ratio}")
    show_problems(state["problems"], console)


def show_problems(problems: list[dict[str, str]], console: Console) -> None:
    """One line each; `no problems` where there are none."""
    for problem in problems:
        line = f"{problem['problem']} {problem['subject']}: {problem['detail']}"
        console.print(f"[red]problem[/] {escape(line)}", soft_wrap=True, highlight=False)
    if not problems:
        console.print("[green]no problems[/]")


def show_pools(pools: list[dict[str, Any]] | None, console: Console) -> None:
    """What waits behind the SQL door, by pool, with the limits that there are."""
    names: tuple[str, ...] = ("pool", "waiting", "claimed", "oldest")
    if any(pool["max_wait_seconds"] is not None for pool in pools or []):
        pools = [pool | _limit(pool) for pool in pools or []]
        names += ("an order may wait", "would wait")
    _show_rows(console, "Waiting behind the SQL door", pools, names)


def waited(queue: dict[str, Any]) -> str:
    """For how long the oldest message of a queue has waited at least, in words."""
    return "-" if queue["oldest_seconds"] is None else f"≥ {queue['oldest_seconds']:.0f} s"


def queue_table(queues: dict[str, dict[str, Any]]) -> Table:
    """The queues of Celery."""
    table = _table("Celery queues", "queue", "waiting", "oldest", "undecodable", "consumers")
    for name, queue in queues.items():
        state = "paused" if queue["paused"] else str(queue["consumers"]) if queue["consumers"] else "[red]none[/]"
        table.add_row(escape(name), str(queue["waiting"]), waited(queue), str(queue["undecodable"]), state)
    return table


def stray_lines(strays: dict[str, int]) -> list[str]:
    """A line for each queue that is none of Ordermill's and has messages."""
    lines = []
    for name, waiting in strays.items():
        near = meant(name, ALL_QUEUES)
        question = f"is {near} meant?" if near else "sent by mistake?"
        lines.append(f"{name} is no queue of Ordermill, and {counted(waiting)} in it: {question}")
    return lines


def counted(messages: int) -> str:
    """So many messages, in words."""
    return f"{messages} message" if messages == 1 else f"{messages} messages"


def _show_queues(state: dict[str, Any], console: Console) -> None:
    console.print(queue_table(state["queues"]))
    for line in stray_lines(state["strays"] or {}):
        console.print(f"[yellow]{escape(line)}[/]", soft_wrap=True, highlight=False)
    workers = _table("Workers", "worker", "processes", "seen", "queues")
    for worker in state["workers"]:
        queues = escape(" ".join(worker["queues"]))
        stopped = " (waits for the database)" if worker["waits_for_database"] else ""
        seen = f"{worker['silent_seconds']} s ago"
        workers.add_row(escape(worker["worker"]), str(worker["processes"]), seen, (queues or "-") + stopped)
    console.print(workers if state["workers"] else "Workers: none has reported")
    in_hand = ", ".join(f"{count} of {name}" for name, count in state["in_hand"].items())
    console.print(f"Messages in hand: {in_hand}")


def _show_jobs(jobs: list[dict[str, Any]], console: Console) -> None:
    table = _table("Jobs", "job", "each", "last run", "state", "slots")
    now = datetime.now(UTC)
    for job in jobs:
        due = "[red]overdue[/]" if job["overdue"] else "-" if job["state"] is None else "in time"
        name, state = job["job"], job["state"] or "never"
        last = f"{span((now - job['started_at']).total_seconds())} ago" if job["started_at"] else "-"
        table.add_row(name, span(job["cadence_seconds"]), last, state, due)
    console.print(table)


def _show_rows(console: Console, title: str, rows: list[dict[str, Any]] | None, names: tuple[str, ...]) -> None:
    if not rows:
        if rows is not None:
            console.print(f"{title}: none")
        return
    table = _table(title, *names)
    for row in rows:
        table.add_row(*(_cell(row[name]) for name in names))
    console.print(table)


def _table(title: str, *names: str) -> Table:
    table = Table(title=title, title_justify="left")
    for place, name in enumerate(names):
        table.add_column(name.replace("_", " "), no_wrap=place == 0)  # what a row is about is never cut
    return table


def _limit(pool: dict[str, Any]) -> dict[str, str]:
    limit, wait = pool["max_wait_seconds"], pool["expected_wait_seconds"]
    if limit is None:
        return dict.fromkeys(("an order may wait", "would wait"), "-")
    return {"an order may wait": f"{limit:g} s", "would wait": f"{wait:.1f} s"}


def _cell(value: Any) -> str:
    return f"{value:%m-%d %H:%M:%S}" if hasattr(value, "hour") else "-" if value is None else escape(str(value))
