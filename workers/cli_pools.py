"""`ordermill pools`: what waits behind the SQL door by pool, and how long an order may wait there."""

import json
from typing import Annotated, Any

import psycopg
import typer
from psycopg.rows import dict_row
from rich.console import Console

from workers.database import connect, translate
from workers.home_folder import located_settings
from workers.status import ORDER_QUEUE
from workers.status_shown import show_pools

pools = typer.Typer(help="Pools: what waits, and how long orders may wait at the SQL door.", no_args_is_help=True)


@pools.command("list")
def list_pools(*, as_json: Annotated[bool, typer.Option("--json", help="As a JSON list.")] = False) -> None:
    """Show what waits behind the SQL door, how long an order may wait there, and about how long it would now."""
    found = _rows(ORDER_QUEUE)
    if as_json:
        print(json.dumps(found, indent=2, default=str))
    else:
        show_pools(found, Console())


@pools.command()
def limit(
    pool: Annotated[str, typer.Argument(help="Its code, as `list` shows it.")],
    seconds: Annotated[str, typer.Argument(help="From 0.1 to 86400; or `none`: orders wait as long as it takes.")],
) -> None:
    """Have the SQL door refuse a pool's orders (OM025) while they would wait longer than so many seconds."""
    wanted = None if seconds == "none" else _number(seconds)
    statement = "SELECT api.set_queue_limit(%s, make_interval(secs => %s)) AS changed"
    [row] = _rows(statement, pool, wanted)
    now = "wait as long as it takes" if wanted is None else f"may wait {wanted:g} s"
    print(f"{pool}: orders {now}{'' if row['changed'] else ', as before'}")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{text} is no number of seconds: give one such as 0.5, or none") from None


def _rows(query: str, *arguments: object) -> list[dict[str, Any]]:
    url = located_settings("database_url").database_url
    with connect(url, row_factory=dict_row, application_name="ordermill pools") as connection:
        try:
            return connection.execute(query.encode(), arguments).fetchall()
        except psycopg.Error as error:
            raise translate(error) from error
