"""`ordermill queues`: lists Celery's queues, pauses and resumes them, and empties one. It reads options and asks."""

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.console import Console

from workers import queues as store
from workers.errors import OrdermillError
from workers.home_folder import located_settings
from workers.status_shown import counted, queue_table, stray_lines

# What imports Celery is imported by the commands: the others start without.
# ruff: noqa: PLC0415

queues = typer.Typer(help="Celery's queues: list them, pause and resume them, empty one.", no_args_is_help=True)
HEEDED_SECONDS = 20.0  # a worker hears of a pause with its report, each two seconds, or after its batch
# What else a pause or a purge of a queue means, or does not.
PAUSES = {
    "orders": "Orders of the SQL door (api.submit_order) are still placed: another queue carries their drain.",
    "maintenance": "No job runs meanwhile: orders behind the SQL door wait, holds do not expire.",
    "events": "No event reaches its consumer meanwhile: alerts, cache and webhooks stand still.",
}
Queue = Annotated[str, typer.Argument(help="As `list` shows it.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@queues.command("list")
def list_queues(as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False) -> None:
    """Show each queue: how many wait, how long the oldest at least, who consumes it, and whether it is paused."""
    from workers.queue_names import ALL_QUEUES

    with _broker() as client:
        found = store.look(client, ALL_QUEUES, store.workers(client))
        strays = store.strays(client, ALL_QUEUES)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        Console().print(queue_table(found))
    for line in stray_lines(strays):
        print(line, file=sys.stderr)


@queues.command()
def pause(queue: Queue) -> None:
    """Have all workers stop taking messages of a queue, also those that start later, until it is resumed."""
    _known(queue)
    with _broker() as client:
        print(f"{queue} is paused" if store.pause(client, queue) else f"{queue} was paused already")
        print(f"What workers have in hand is finished; the rest waits until: ordermill queues resume {queue}")
        if queue in PAUSES:
            print(PAUSES[queue])
        _wait(client, queue, consumed=False)


@queues.command()
def resume(queue: Queue) -> None:
    """Have workers take messages of a paused queue again."""
    with _broker() as client:
        if not store.resume(client, queue):
            _known(queue)
            print(f"{queue} was not paused")
            return
        waiting = store.depth(client, queue)
        print(f"{queue} is resumed; {counted(waiting)} {'waits' if waiting == 1 else 'wait'}")
        _wait(client, queue, consumed=True)


@queues.command()
def purge(
    queue: Queue,
    *,
    drop: Annotated[bool, typer.Option("--drop", help="Delete for good, instead of keeping as dead letters.")] = False,
    yes: Yes = False,
) -> None:
    """Take all waiting messages out of a queue: they become dead letters (OM057), which can be replayed.

    What workers have in hand stays theirs. Pause the queue first, or workers take what they can meanwhile.
    """
    _known(queue)
    with _broker() as client:
        waiting = store.depth(client, queue)
        if not waiting:
            print(f"nothing waits in {queue}")
            return
        print(f"{counted(waiting)} {'waits' if waiting == 1 else 'wait'} in {queue}")
        print(
            "They are deleted for good. Who sent a command gets no answer, and its key stays unknown."
            if drop
            else "They become dead letters of code OM057, to be replayed or discarded with `ordermill dead-letters`."
        )
        _confirm(queue, yes)
        if drop:
            print(f"{counted(store.drop(client, queue))} deleted")
        else:
            moved, expired = store.set_aside(client, queue)
            print(f"{counted(moved)} set aside; the next job collects them, within 10 s")
            if expired:
                print(f"{counted(expired)} had expired: dropped, for no worker would run them")


def _confirm(queue: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise OrdermillError("nothing is done: there is no terminal to ask on; add --yes to purge without asking")
    if typer.prompt("Type the queue's name to go on", default="", show_default=False) != queue:
        print("nothing is done")
        raise typer.Exit(1)


def _wait(client: Any, queue: str, *, consumed: bool) -> None:
    """Waits until the living workers have heeded it, and says so; exit 1 when they have not."""
    deadline = time.monotonic() + HEEDED_SECONDS
    while True:
        living = [each for each in store.workers(client) if each["silent_seconds"] <= store.SILENT_SECONDS]
        consumers = [each["worker"] for each in living if queue in each["queues"]]
        if bool(consumers) == consumed:
            print(f"consumed by {', '.join(consumers)}" if consumed else "no worker consumes it now")
            return
        if not living or time.monotonic() > deadline:
            print(
                "no worker consumes it: start one, or see `ordermill status`"
                if consumed
                else f"not heeded yet by {', '.join(consumers)}: see `ordermill status`",
                file=sys.stderr,
            )
            raise typer.Exit(1)
        time.sleep(0.2)


def _known(queue: str) -> None:
    from workers.queue_names import ALL_QUEUES

    if queue not in ALL_QUEUES:
        raise OrdermillError(f"no queue is named {queue}: give one of {', '.join(ALL_QUEUES)}")


@contextlib.contextmanager
def _broker() -> Iterator[Any]:
    from workers.replay import broker_of, publisher

    with broker_of(publisher(located_settings("broker_url"))) as client:
        yield client
