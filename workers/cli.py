"""The `ordermill` command. It reads options, calls one thing and shows what came of it; errors are one line."""

import contextlib
import importlib.metadata
import json
import logging
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import psycopg
import pydantic
import redis
import sqlalchemy.exc
import typer
from rich.console import Console
from rich.table import Table

from workers.cli_alerts import alerts
from workers.cli_cache import cache
from workers.cli_dead_letters import letters
from workers.cli_events import events
from workers.cli_pools import pools
from workers.cli_queues import queues
from workers.cli_upkeep import upkeep
from workers.cli_views import views
from workers.cli_webhooks import webhooks
from workers.driver_words import in_one_line
from workers.errors import OrdermillError
from workers.home_folder import located_settings
from workers.kept_orders import marked
from workers.processes import Stack
from workers.settings import get_settings, unusable

app = typer.Typer(
    help="Ordermill: the order engine behind a shop.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(letters, name="dead-letters")
app.add_typer(alerts, name="alerts")
app.add_typer(cache, name="cache")
app.add_typer(events, name="events")
app.add_typer(upkeep)
app.add_typer(views, name="views")
app.add_typer(webhooks, name="webhooks")
app.add_typer(queues, name="queues")
app.add_typer(pools, name="pools")
console = Console()


def _version(asked: bool) -> None:
    if asked:
        console.print(f"ordermill {importlib.metadata.version('ordermill')}", highlight=False)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    return


@app.command()
def demo(
    orders: Annotated[int, typer.Option(min=1, help="How many real baskets to submit.")] = 20_000,
    *,
    anew: Annotated[bool, typer.Option("--anew", help="Forget what was ordered under `up`.")] = False,
) -> None:
    """Load a shop in place of the last, submit real baskets through both doors, verify, and show what came of it."""
    from workers.demo.run import run_demo  # noqa: PLC0415  # DuckDB and the baskets, which only the demo needs

    raise typer.Exit(run_demo(orders=orders, anew=anew))


@app.command()
def up() -> None:
    """Keep servers, workers, beat and Flower running in the foreground; Ctrl-C stops them."""
    from workers.sample import example_order  # noqa: PLC0415

    try:
        settings = get_settings()
        with Stack(settings, report=lambda line: console.print(f"[dim]{line}[/]", highlight=False)) as stack:
            order = example_order(stack.database_url)
            own = "database_url" not in settings.model_fields_set
            with marked(stack.home, stack.database_url) if own else contextlib.nullcontext():
                _show_addresses(stack, order)
                while True:
                    stack.keep()
                    time.sleep(1)
    except KeyboardInterrupt:
        console.print("stopped")


def _show_addresses(stack: Stack, order: dict[str, Any]) -> None:
    user, password = stack.flower_auth
    celery = Path(sys.executable).with_name("celery")
    if celery.is_relative_to(Path.cwd()):
        celery = celery.relative_to(Path.cwd())
    line = shlex.join(
        [str(celery), "-b", stack.broker_url, "call", "orders.place", "--queue", "orders", "-a", json.dumps([order])]
    )
    for name, value in (
        ("database", stack.database_url),
        ("redis", stack.redis_url),
        ("broker", stack.broker_url),
        ("flower", f"{stack.flower_url}  (user {user}, password {password})"),
        ("metrics", f"{stack.metrics_url}/metrics  (and /healthz)"),
        ("logs", str(stack.home / "logs")),
    ):
        console.print(f"[bold]{name:9}[/] {value}", soft_wrap=True, highlight=False)
    # Plain prints: a line to paste must not be wrapped or marked up.
    print("\nEnqueue an order from another terminal (the answer is its task id and key; watch it in Flower):\n")
    print(line)
    print(f"\nrunning; Ctrl-C stops, as does SIGTERM to process {os.getpid()}", flush=True)


@app.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
)
def worker(context: typer.Context) -> None:
    """Run a worker, with the options of `celery worker`: `-Q orders -P solo`, say."""
    from workers.worker import main as work  # noqa: PLC0415  # as `workers.entry`, which spares it all of this

    work(context.args)


@app.command()
def migrate() -> None:
    """Bring the database to this version's schema; harmless to repeat."""
    from workers.migrate import migrate as migrate_database  # noqa: PLC0415

    migrate_database(located_settings("database_url").database_url, print)


@app.command()
def sample() -> None:
    """Load a sample shop of three products beside what is sold already, for the examples; harmless to repeat."""
    from workers.sample import PRODUCTS, example_order  # noqa: PLC0415

    example_order(located_settings("database_url").database_url)
    console.print(f"the sample shop sells {', '.join(sku for sku, *_ in PRODUCTS)}", highlight=False)


@app.command()
def verify() -> None:
    """Recompute stock and totals from their records; show the first bad entry, if there is one, and exit 1."""
    from workers.database import connect  # noqa: PLC0415

    with connect(located_settings("database_url").database_url) as connection:
        bad = connection.execute("SELECT check_name, entry, detail FROM api.verify() LIMIT 1").fetchone()
        counts = connection.execute(
            """SELECT (SELECT count(*) FROM api.orders), (SELECT count(*) FROM api.order_lines),
                      (SELECT count(*) FROM api.availability)"""
        ).fetchone() or (0, 0, 0)
    if bad is None:
        orders, lines, products = counts
        console.print(
            f"[green]clean[/]: {orders:,} orders, {lines:,} lines, stock of {products:,} products", highlight=False
        )
        return
    table = Table("check", "entry", "detail", title="First bad entry")
    table.add_row(str(bad[0]), str(bad[1]), json.dumps(bad[2], indent=2, default=str))
    console.print(table)
    raise typer.Exit(1)


@app.command()
def status(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
    probe: Annotated[bool, typer.Option("--probe", help="Only the problems, one a line; for a probe.")] = False,
) -> None:
    """Show which servers answer, what waits and since when, what the jobs did; exit 1 if there is a problem."""
    from workers.status import collect  # noqa: PLC0415
    from workers.status_shown import show, show_problems  # noqa: PLC0415

    given = located_settings("database_url", "redis_url")
    addresses = (given.database_url, given.redis_url, given.broker_url, given.sentinel_master)
    state = collect(*addresses, thorough=not probe, settings=given)
    if as_json:
        print(json.dumps(state, indent=2, default=str))
    elif probe:
        show_problems(state["problems"], console)
    else:
        show(state, console)
    if state["problems"]:
        raise typer.Exit(1)


@app.command()
def metrics(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(min=0, max=65_535, help="Default: ORDERMILL_METRICS_PORT.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Where workers count. Default: ORDERMILL_METRICS_DIR.")] = None,
) -> None:
    """Serve /metrics for Prometheus and /healthz until Ctrl-C. There is no login: keep it on a network of your own."""
    from workers.exporter import serve  # noqa: PLC0415

    settings = located_settings("database_url", "redis_url")
    serve(settings.model_copy(update={"metrics_dir": folder or settings.metrics_dir}), host, port, print)


def main() -> None:
    """Run the command; an error is one line and exit code 2, its traceback shown only with ORDERMILL_DEBUG=1."""
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    try:
        app()
    except Exception as error:
        if os.environ.get("ORDERMILL_DEBUG"):
            raise
        cause = getattr(error, "orig", None) or error  # SQLAlchemy's errors carry the driver's
        print(f"ordermill: {_one_line(cause)}", file=sys.stderr)
        raise SystemExit(2) from None


def _one_line(error: BaseException) -> str:
    words = str(error).strip()
    first = words.splitlines()[0] if words else type(error).__name__
    match error:
        case pydantic.ValidationError():
            line = unusable(error)
        case psycopg.Error() if known := in_one_line(error):
            line = known
        case psycopg.OperationalError():
            line = f"PostgreSQL: {first}: check DATABASE_URL"
        case psycopg.ProgrammingError() if "connection info" in first or '"="' in first:
            line = f"DATABASE_URL cannot be read ({first}): write it as postgresql://user:password@host:5432/name"
        case redis.RedisError():
            line = f"Redis: {first}: check REDIS_URL and CELERY_BROKER_URL"
        case sqlalchemy.exc.ArgumentError():
            line = (
                f"an address cannot be read ({first}): write DATABASE_URL as postgresql://user:password@host:5432/name"
            )
        case OrdermillError() | ValueError():
            line = words
        case _:
            line = f"{type(error).__name__}: {first}; set ORDERMILL_DEBUG=1 to see where"
    return line


if __name__ == "__main__":
    main()
