"""The Celery door for orders, and the two tasks that serve the SQL door. Each wraps a routine; see docs/tasks.md."""

from typing import Any

from kombu.exceptions import OperationalError
from pydantic import ValidationError
from redis.exceptions import RedisError

from tasks.commands import run_command
from tasks.payloads import CancelRequest, CompleteRequest, OrderRequest, fits_as_key, refused_key
from workers.app import app
from workers.base_task import CommandTask, JobTask, as_text, key_of, payload_of
from workers.batching import BatchTask, Call
from workers.database import Jsonb, call, call_one, holdable
from workers.drain import QUERY_CANCELED
from workers.drain import drain as drain_pools
from workers.errors import BusinessError, OutageError, PermanentError
from workers.jobs import repeat, run_job
from workers.settings import get_settings
from workers.sold_out import known

Outcome = dict[str, Any]


class PlaceTask(BatchTask):
    """How orders are placed: a batch of messages in one transaction, or one alone."""

    abstract = True

    def run_batch(self, calls: list[Call]) -> list[Any]:
        """Their outcomes; an order that has no form, or that the database refuses, takes none of the others along."""
        return place_all([read_order(payload_of(tuple(each.args), each.kwargs), each.id) for each in calls])

    def give_up(self, args: tuple[Any, ...], kwargs: dict[str, Any], attempts: int) -> Any:
        """An order is dead under its own key, for both doors."""
        request = read_order(payload_of(args, kwargs), self.request.id)
        if "status" in request:
            return request
        reason = f"Each of its {attempts} attempts ended with its worker, or with its connection to the database."
        return call_one("api.bury_order", Jsonb(request), "OM090", reason, attempts, patience=patience())


@app.task(name="orders.place", base=PlaceTask, bind=True)
def place(self: PlaceTask, *args: Any, **kwargs: Any) -> Outcome:
    """Places one order: takes an OrderRequest, gives its outcome: placed, rejected, refused or dead."""
    return place_all([read_order(payload_of(args, kwargs), self.request.id)], again=comes_again(self))[0]


class PlaceManyTask(CommandTask):
    """How a list of orders is placed: in batches; when it kills its workers, each order on its own."""

    abstract = True

    def give_up(self, args: tuple[Any, ...], kwargs: dict[str, Any], attempts: int) -> Any:
        """The outcomes so far: each order is sent as an `orders.place`, so that only the one that kills is dead."""
        payload = payload_of(args, kwargs)
        if not_a_list(payload):
            return place_many.run(*args, **kwargs)
        ids = [f"{self.request.id}:{number}" for number in range(len(payload))]
        try:
            with app.producer_or_acquire() as producer, producer.batch():
                for order, task_id in zip(payload, ids, strict=True):
                    place.apply_async((order,), task_id=task_id, producer=producer, retry=False)
        except (OSError, RedisError, OperationalError) as error:
            raise OutageError(f"Redis: {error}") from error
        return [
            {"key": key_of(order, task_id), "status": "accepted", "order_id": None, "code": None, "field": None}
            | {"message": "Placed alone, because the list ended its workers: ask for its outcome by its key."}
            for order, task_id in zip(payload, ids, strict=True)
        ]


@app.task(name="orders.place_many", base=PlaceManyTask, bind=True)
def place_many(self: CommandTask, *args: Any, **kwargs: Any) -> list[Outcome]:
    """Places a list of orders, each decided alone: gives their outcomes in order.

    An order's key is its own, or else `<task id>:<place in the list>`.
    """
    payload = payload_of(args, kwargs)
    if not_a_list(payload):
        reason = f"Give one list of at most {get_settings().place_many_limit} orders."
        if not fits_as_key(self.request.id):
            return [refused_key()]
        code = "OM009" if isinstance(payload, list) else "OM011"
        asked = (self.request.id, "orders.place_many", as_text(payload), code, "orders", reason)
        return [call_one("api.refuse_command", *asked)]
    requests = [read_order(each, f"{self.request.id}:{place}") for place, each in enumerate(payload)]
    return place_all(requests, again=comes_again(self))


@app.task(name="orders.cancel", base=CommandTask, bind=True)
def cancel(self: CommandTask, *args: Any, **kwargs: Any) -> Outcome:
    """Cancels an order: takes a CancelRequest, gives its outcome: done or rejected."""
    return run_command(
        CancelRequest,
        payload_of(args, kwargs),
        self.request.id,
        "order.cancel",
        lambda key, asked: call_one("api.cancel_order", key, asked.order_id, asked.reason),
    )


@app.task(name="orders.complete", base=CommandTask, bind=True)
def complete(self: CommandTask, *args: Any, **kwargs: Any) -> Outcome:
    """Completes an order that has left: takes a CompleteRequest, gives its outcome: done or rejected."""
    return run_command(
        CompleteRequest,
        payload_of(args, kwargs),
        self.request.id,
        "order.complete",
        lambda key, asked: call_one("api.complete_order", key, asked.order_id),
    )


@app.task(name="orders.drain", base=JobTask)
def drain(seconds: float | None = None) -> dict[str, int] | None:
    """Places what waits behind the SQL door for some seconds, then starts its successor; None when others drain."""
    settings = get_settings()
    done = drain_pools(settings, settings.drain_seconds if seconds is None else seconds, for_help=call_for_help)
    if done is not None and seconds is None and done["pools"]:
        # If this is lost, beat starts the next. It expires because on a lone process two chains would go on for ever,
        # each run after the other's and so never finding the pools taken.
        drain.apply_async(retry=False, expires=settings.drain_seconds)
    return done


def call_for_help() -> None:
    """Starts one more drain, which ends by itself; raises OutageError."""
    try:
        drain.apply_async((get_settings().drain_seconds,), retry=False, ignore_result=True, expires=5)
    except (OSError, RedisError, OperationalError) as error:
        raise OutageError(f"Redis: {error}") from error


@app.task(name="orders.sweep", base=JobTask)
def sweep(cadence: float | None = None) -> dict[str, Any]:
    """Takes back claims whose drain died, and places what is left, from the oldest, where no drain is at work.

    What has waited for long is placed also where a drain holds the pool: it may stand still.
    """
    settings = get_settings()
    swept = run_job(
        "orders.sweep",
        cadence,
        lease=60,
        work=lambda session: {"swept": repeat(session, "api.sweep_claims", 100, settings.claim_attempts)},
    )
    if "skipped" not in swept:
        swept["drained"] = drain_pools(settings, settings.drain_seconds, until_empty=True)
        swept["late"] = drain_pools(settings, settings.drain_seconds, until_empty=True, late=True)
    return swept


def not_a_list(payload: Any) -> bool:
    """Whether this is no list of orders, or too long a one."""
    return not isinstance(payload, list) or len(payload) > get_settings().place_many_limit


def comes_again(task: CommandTask) -> bool:
    """Whether the message of this call was delivered before, to a worker that died or lost its connection."""
    return bool((task.request.delivery_info or {}).get("redelivered"))


def patience() -> float:
    """Seconds that this door tries again in place."""
    return get_settings().orders_patience


def read_order(payload: Any, task_id: str) -> Outcome:
    """The typed values of an order, or the stored outcome of one that does not have the form (it has a `status`)."""
    try:
        return OrderRequest.model_validate(payload).typed(task_id)
    except ValidationError:
        # The database names the field, in the same words as at the SQL door, and has the last word.
        checked: Outcome = call_one("api.check_request", as_text(payload), holdable(task_id), patience=patience())
        request: Outcome = checked.get("request", checked)
        return request


def place_all(requests: list[Outcome], again: bool = False) -> list[Outcome]:
    """The outcomes of what `read_order` gave, in order: so many in one transaction as are fastest.

    With ORDERMILL_REFUSE_SOLD_OUT what needs a sku that is sold out is refused; not where the message comes `again`:
    what its last attempt began may be about to commit.
    """
    good = [request for request in requests if "status" not in request]
    refusing = get_settings().refuse_sold_out
    refused = known.refuse(good, patience()) if refusing and not again else [None] * len(good)
    wanted = [request for request, outcome in zip(good, refused, strict=True) if outcome is None]
    size = get_settings().place_batch
    decided = [outcome for at in range(0, len(wanted), size) for outcome in place_batch(wanted[at : at + size])]
    if refusing:
        known.note(wanted, decided)
    placed = iter(decided)
    outcomes = iter([outcome or next(placed) for outcome in refused])
    return [request if "status" in request else next(outcomes) for request in requests]


def place_one(request: Outcome) -> Outcome:
    """Places one order; what the database refuses for a reason no retry can mend becomes a dead letter."""
    try:
        outcome: Outcome = call_one("api.place_order", Jsonb(request), patience=patience())
    except (PermanentError, BusinessError) as error:
        reason = f"The database refuses this order: {error}"
        outcome = call_one("api.bury_order", Jsonb(request), "OM090", reason, 1, patience=patience())
    return outcome


def place_batch(requests: list[Outcome]) -> list[Outcome]:
    """Places a batch in one transaction; when one order breaks it, or it is too much for one statement, each alone."""
    if len(requests) == 1:
        return [place_one(requests[0])]
    try:
        return call("api.place_orders", Jsonb(requests), patience=patience())
    except (PermanentError, BusinessError):
        return [place_one(request) for request in requests]
    except OutageError as error:
        if error.sqlstate != QUERY_CANCELED:
            raise
        return [place_one(request) for request in requests]
