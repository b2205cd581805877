"""`ordermill cache`: shows how well cached reads do, and voids them."""

import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from workers.errors import OrdermillError
from workers.home_folder import located_settings

# What imports Celery or dogpile is imported by the commands: the others start without.
# ruff: noqa: PLC0415

cache = typer.Typer(help="Cached reads: show how well they do, or void them.", no_args_is_help=True)
MIB = 2**20


@cache.command()
def stats(as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False) -> None:
    """Show hits, misses and hit ratio of all processes, and what the cache holds; exit 1 if it does not answer."""
    from workers.cache import stats as read_stats

    state = read_stats(located_settings("redis_url"))
    if as_json:
        print(json.dumps(state, indent=2))
    else:
        show(state, Console())
    if not state["answers"]:
        raise typer.Exit(1)


@cache.command()
def clear(
    warm: Annotated[bool, typer.Option(help="Have a worker load the best sellers again.")] = True,
) -> None:
    """Void all that is cached, in one step: each next read is one of PostgreSQL. Harmless."""
    from workers.cache import Cache
    from workers.replay import publisher

    settings = located_settings("redis_url", "broker_url")
    held = Cache(settings)
    if held.store is None:
        raise OrdermillError("there is no cache: set ORDERMILL_CACHE_URL")
    held.clear()
    print("cleared")
    if warm:
        try:
            publisher(settings).send_task("cache.warm", queue="cache", expires=600, retry=False)
        except Exception as error:
            print(f"no worker is told to warm it, since the broker does not answer: {error}", file=sys.stderr)


def show(state: dict[str, Any], console: Console) -> None:
    """The same as a table."""
    if not state["address"]:
        console.print("There is no cache: reads go to PostgreSQL. Set ORDERMILL_CACHE_URL.")
        return
    if not state["answers"]:
        console.print(f"[red]The cache does not answer[/]: {state.get('error', '')}: reads go to PostgreSQL.")
        return
    table = Table("reads of", "hits", "misses", "hit ratio", "negative", title="Cache", title_justify="left")
    for kind, counts in (*state["kinds"].items(), ("all", state)):
        ratio = counts["hit_ratio"]
        table.add_row(
            kind,
            f"{counts['hits']:,}",
            f"{counts['misses']:,}",
            "-" if ratio is None else f"{ratio:.1%}",
            f"{counts['negative']:,}",
        )
    console.print(table)
    limit = state["memory_limit_bytes"]
    console.print(
        f"{state['entries']:,} entries; the server has {state['memory_bytes'] / MIB:,.1f} MiB of"
        f" {f'{limit / MIB:,.0f} MiB' if limit else 'no limit'} ({state['policy']}), evicted {state['evicted']:,};"
        f" {state['errors']:,} errors; at {state['address']}",
        highlight=False,
    )
