"""Runs the demo from nothing to its report: read, start, load, submit, verify, tell."""

import secrets
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import redis
from celery import Celery
from kombu.exceptions import KombuError
from rich.console import Console
from rich.panel import Panel
from rich.rule import Rule
from rich.text import Text

from workers.child import wait_until
from workers.demo.baskets import Basket, DemoDataMissing, Journey
from workers.demo.display import OrdersDisplay, Steps, clock
from workers.demo.doors import CELERY, SQL, CeleryDoor, SqlDoor, celery_door, sql_door
from workers.demo.followed import Followed, NothingFollowed, add_endpoint, follow, remove_endpoint
from workers.demo.followed import table as table_of_what_followed
from workers.demo.ground import DATABASE, GroundTaken, own_ground
from workers.demo.load import load_shop
from workers.demo.receiver import LOOPBACK, Receiver
from workers.demo.report import CLEAN, NOT_RUN, REPORT, ask_flower, verify, write_report
from workers.demo.submit import NotDecided, Submitter
from workers.demo.summary import print_summary
from workers.demo.tally import Tally
from workers.errors import SetupError
from workers.home_folder import ServiceError, prepare
from workers.kept_orders import forget
from workers.processes import Stack
from workers.settings import Settings, get_settings

INTERRUPTED = 130
# A drain locks the pools that it serves. Without one the demo goes on: beat starts the next within seconds.
DRAINED = """SELECT count(*) FROM shop.pools p WHERE NOT EXISTS (
    SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = %s AND objid = p.id AND granted)"""
DRAIN_SECONDS = 10.0


class AnswersDiffer(Exception):
    """Two ways of asking for one order's outcome gave different answers."""


class OrdersDied(Exception):
    """Orders became dead letters. That is an outcome, but no real basket deserves it: something is broken."""


EXPECTED = (
    *(DemoDataMissing, GroundTaken, NotDecided, AnswersDiffer, OrdersDied, NothingFollowed, ServiceError, SetupError),
    *(psycopg.Error, redis.RedisError, KombuError, OSError),
)


@dataclass
class Result:
    """What is known of the run so far; written to `demo.json` however it ends."""

    tally: Tally
    excluded: int = 0
    verify: str = NOT_RUN
    followed: Followed | None = None


def run_demo(orders: int = 20_000, home: Path | None = None, *, anew: bool = False) -> int:
    """Run the demo, `anew` also where somebody ordered under `up`.

    Gives 0 when every key has an outcome and `verify` is clean, 130 after Ctrl-C, else 1.
    """
    console = Console(highlight=False)
    if orders < 1:
        console.print("The number of orders must be 1 or more, as in: make demo ORDERS=2000")
        return 1
    settings = get_settings()
    # The demo waits for what is stored under each key.
    settings = settings.model_copy(update={"home": (home or settings.home).absolute(), "refuse_sold_out": False})
    result = Result(Tally(orders))
    start = time.monotonic()
    try:
        prepare(settings.home)
        if "database_url" not in settings.model_fields_set:
            forget(settings.home, meant=anew)
        _demo(console, settings, result)
    except KeyboardInterrupt:
        return _ended(console, settings, result, "Interrupted: all that was started is stopped.", INTERRUPTED)
    except SystemExit as leaving:
        _ended(console, settings, result, "Ended by a signal: all that was started is stopped.", 1)
        raise leaving
    except EXPECTED as error:
        return _ended(console, settings, result, f"The demo failed: {_words(error)}", 1)
    path = write_report(settings.home, result.tally, result.excluded, result.verify, result.followed)
    console.print(
        f"\nDone in {clock(time.monotonic() - start)}, everything is stopped. The result is in {_short(path)}."
    )
    if "database_url" in settings.model_fields_set:
        console.print(f"The shop stays in the database {DATABASE} of the server in DATABASE_URL.")
    else:
        console.print("The shop stays: look at it with `make up`, which prints its addresses.")
    return 0 if result.verify == CLEAN else 1


def _words(error: Exception) -> str:
    words = str(error).strip()
    first = words.partition("\n")[0]
    match error:
        case psycopg.Error():
            return f"PostgreSQL: {first}: check DATABASE_URL"
        case redis.RedisError() | KombuError():
            return f"Redis: {first}: check REDIS_URL and CELERY_BROKER_URL"
        case _:
            return words


def _ended(console: Console, settings: Settings, result: Result, message: str, code: int) -> int:
    first, *rest = message.splitlines()
    console.print(Text(first, style="bold red"), soft_wrap=True)
    console.print(Text("\n".join(rest), style="dim"), soft_wrap=True, end="\n" if rest else "")
    if not result.tally.submitted and (settings.home / REPORT).exists():
        return code  # nothing is known that should replace the last result
    with suppress(OSError):
        path = write_report(settings.home, result.tally, result.excluded, result.verify, result.followed)
        console.print(
            f"What is known is in {_short(path)}; the logs are in {_short(settings.home / 'logs')}.", soft_wrap=True
        )
    return code


def _demo(console: Console, settings: Settings, result: Result) -> None:
    steps = Steps(console)
    console.print(Rule(Text("Ordermill demo", style="bold"), style="dim"))
    with steps.step("Baskets") as step:
        journey = Journey(result.tally.total)
        baskets, excluded = journey.baskets(), journey.excluded()
        asked, result.tally.total = result.tally.total, len(baskets)
        result.excluded = sum(entry.baskets for entry in excluded)
        households = len({basket.household_id for basket in baskets})
        all_there_are = f"all that there are, not {asked:,}, " if asked > len(baskets) else ""
        step.say(f"{len(baskets):,}, {all_there_are}of {households:,} households, {days(baskets)}")
    with ExitStack() as open_parts:
        with steps.step("Ordermill") as step:
            ground = open_parts.enter_context(own_ground(settings))
            receiver = open_parts.enter_context(Receiver())
            ground = ground.model_copy(update={"webhooks_allow": LOOPBACK})
            stack = open_parts.enter_context(Stack(ground, fresh=True, report=steps.progress))
            step.say(f"{ground.orders_workers} order workers, beat; Flower: {stack.flower_url}")
        connection = open_parts.enter_context(
            psycopg.connect(stack.database_url, autocommit=True, application_name="ordermill demo")
        )
        connection.execute("SET ROLE ordermill_owner")
        with steps.step("Shop") as step:
            load_shop(connection, journey, lambda what, done, of: steps.progress(f"{what} {done:,} of {of:,}"))
            step.say(shop_line(connection, journey))
            add_endpoint(connection, receiver)
            steps.progress("the drain takes the new pools")
            wake_drain(connection)
        _submit(console, stack, connection, baskets, result.tally)
        with steps.step("Followed") as step:
            result.followed = follow(connection, celery_app(), receiver, steps.progress)
            remove_endpoint(connection)
            step.say(f"{result.followed.events:,} events reached alerts, cache, views and webhooks")
        with steps.step("Verify") as step:
            result.verify = verify(connection)
            step.say("clean: orders, movements and stock levels agree" if result.verify == CLEAN else result.verify)
        with steps.step("Flower") as step:
            seen = ask_flower(stack.flower_url, stack.flower_auth)
            step.say(f"{seen.workers} workers; of its latest {seen.tasks:,} tasks {seen.order_tasks:,} are orders")
        console.print()
        print_summary(console, connection, excluded, journey.pool_sizes())
        console.print(table_of_what_followed(result.followed))
        print_result(console, result.tally, result.verify)
        refuse_dead(connection, result.tally)


def celery_app() -> Celery:
    """Ordermill's application, once the settings name this stack's addresses."""
    from workers.app import app  # noqa: PLC0415

    return app


def _submit(
    console: Console, stack: Stack, connection: psycopg.Connection[Any], baskets: list[Basket], tally: Tally
) -> None:
    # The same basket is another order in the next run: an outcome of this run is never one of the last.
    run = f"demo-{secrets.token_hex(3)}"
    with (
        redis.Redis.from_url(stack.broker_url, socket_timeout=5) as broker,
        celery_door(celery_app()) as celery,
        sql_door(stack.database_url) as sql,
        OrdersDisplay(console, tally) as display,
    ):

        def refresh() -> None:
            display.refresh()
            stack.keep()

        Submitter(connection, broker, (celery, sql), tally, refresh).run(baskets, run)
        compare_answers(connection, celery, sql)


def wake_drain(connection: psycopg.Connection[Any]) -> None:
    """Start a drain now that there are pools, so that the first orders do not wait for beat."""
    from workers.drain import LOCK_CLASS  # noqa: PLC0415  # as below

    celery_app().send_task("orders.drain", ignore_result=True)
    wait_until(lambda: connection.execute(DRAINED, [LOCK_CLASS]).fetchone() == (0,), DRAIN_SECONDS)


def compare_answers(connection: psycopg.Connection[Any], celery: CeleryDoor, sql: SqlDoor) -> None:
    """Hold Celery's results and the answers to second copies against `api.order_outcome`; raises AnswersDiffer."""
    told = {key: result.get(timeout=10) for key, result in celery.results.items()}
    told |= {key: answer for key, answer in sql.answers.items() if answer["status"] != "accepted"}
    for key, answer in told.items():
        row = connection.execute("SELECT api.order_outcome(%s)", [key]).fetchone()
        if row is None or row[0] != answer:
            raise AnswersDiffer(f"order {key}: a door said {answer}, api.order_outcome says {row and row[0]}")


def refuse_dead(connection: psycopg.Connection[Any], tally: Tally) -> None:
    """Raise OrdersDied, with the first one's reason, if any order became a dead letter."""
    if tally.dead:
        row = connection.execute("SELECT key, reason FROM shop.dead_letters ORDER BY id LIMIT 1").fetchone()
        key, reason = row or ("unknown", "no dead letter says why")
        raise OrdersDied(
            f"{tally.dead:,} orders became dead letters, first {key}: {reason} All are in api.dead_letters."
        )


def shop_line(connection: psycopg.Connection[Any], journey: Journey) -> str:
    """What the shop holds before the first order."""
    row = connection.execute(
        """SELECT (SELECT count(*) FROM shop.products), (SELECT count(*) FROM shop.pools),
                  (SELECT count(*) FROM shop.stock_levels)"""
    ).fetchone()
    products, pools, levels = row or (0, 0, 0)
    return f"{products:,} products, {journey.stores} stores in {pools} pools, {levels:,} stock levels"


def days(baskets: list[Basket]) -> str:
    """From the first to the last day of the baskets."""
    first, last = baskets[0].ordered_at, baskets[-1].ordered_at
    return f"{first.day} {first:%b %Y} to {last.day} {last:%b %Y}"


def print_result(console: Console, tally: Tally, verdict: str) -> None:
    """Print the numbers that `demo.json` has, for people."""
    pace = tally.decided / tally.seconds if tally.seconds else 0.0
    style = "bold green" if verdict == CLEAN else "bold red"
    console.print(
        Panel(
            Text.assemble(
                (f"{tally.submitted:,} submitted", "bold"),
                f" ({tally.by_door[CELERY]:,} by Celery, {tally.by_door[SQL]:,} by SQL), ",
                f"{tally.duplicates:,} of them twice\n",
                (f"{tally.placed:,} placed", "green"), ", ", (f"{tally.rejected.total():,} rejected", "yellow"),
                f", {tally.dead:,} dead\n",
                f"{tally.seconds:.1f} s, ", (f"{pace:,.0f} orders/s", "bold cyan"),
                f", from submit to outcome p50 {tally.percentile(0.5):,.0f} ms, p99 {tally.percentile(0.99):,.0f} ms\n",
                "verify: ", (verdict, style),
            ),
            title="result", border_style="dim",
        )
    )  # fmt: skip


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
