"""A web service that places orders: it submits one by SQL, waits for the outcome, and answers with it.

Needs `fastapi`, `uvicorn`, `psycopg` with its pool, and a login that is a member of ordermill_app. The shop is the
sample of `make up`. While requests wait they hold neither a thread nor a connection; and only PostgreSQL must be there.

    uvicorn --app-dir examples fastapi_service:app
"""

import asyncio
import json
import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import psycopg
from fastapi import FastAPI, Header, Response
from psycopg_pool import AsyncConnectionPool, PoolTimeout
from pydantic import BaseModel, ConfigDict, Field

WAIT = 10.0  # seconds; longer only where the workers are down or far behind
STATUS = {"accepted": 202, "placed": 201, "rejected": 409, "refused": 503, "dead": 500}

log = logging.getLogger("uvicorn.error")
database = AsyncConnectionPool(
    os.environ["DATABASE_URL"],
    kwargs={"autocommit": True},
    check=AsyncConnectionPool.check_connection,  # after a restart of PostgreSQL, no request gets a dead connection
    timeout=3,
    open=False,
)


@asynccontextmanager
async def connected(_app: FastAPI) -> AsyncIterator[None]:
    """The pool, as long as the service runs."""
    async with database:
        yield


app = FastAPI(title="A shop's checkout", lifespan=connected)


class Line(BaseModel):
    """So many units of a sku."""

    model_config = ConfigDict(extra="forbid")  # what would not be heeded is refused
    sku: str
    quantity: int = Field(gt=0)


class Checkout(BaseModel):
    """What a customer buys."""

    model_config = ConfigDict(extra="forbid")
    customer: str
    lines: list[Line] = Field(min_length=1)


async def ask(statement: str, text: str) -> dict[str, Any]:
    """What a routine of `api` answers."""
    async with database.connection() as connection:
        [outcome] = await (await connection.execute(statement, [text])).fetchone()
    return outcome


@app.post("/orders")
async def place(checkout: Checkout, idempotency_key: Annotated[str, Header()], answer: Response) -> dict[str, Any]:
    """The outcome. After 202, 503 or no answer, send the same order again under its key: it is placed once."""
    order = {"version": 1, "key": idempotency_key, "pool": "SAMPLE"} | checkout.model_dump()
    deadline = time.monotonic() + WAIT
    try:
        outcome = await ask("SELECT api.submit_order(%s)", json.dumps(order))
        while outcome["status"] == "accepted" and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
            outcome = await ask("SELECT api.order_outcome(%s)", idempotency_key)
    except (psycopg.Error, PoolTimeout) as error:
        log.error("%s: %s", idempotency_key, error)
        answer.status_code = 503
        return {"key": idempotency_key, "status": "unknown"}
    answer.status_code = STATUS[outcome["status"]]
    print(json.dumps(outcome), flush=True)
    return outcome
