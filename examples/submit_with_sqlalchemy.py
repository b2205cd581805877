"""Submits an order in the session that saves the application's own row: both are committed, or neither is.

Needs `SQLAlchemy` and `psycopg`, and a login that is a member of ordermill_app. The order is for the sample shop of
`make up`.
"""

import json
import os
import sys
import time
import uuid
from datetime import datetime

from sqlalchemy import JSON, create_engine, func, make_url, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    """The application's own tables."""


class Checkout(Base):
    """A cart that was bought; its key is the order's."""

    __tablename__ = "checkouts"
    key: Mapped[str] = mapped_column(primary_key=True)
    bought_at: Mapped[datetime] = mapped_column(server_default=func.now())


def submit(session: Session, order: dict[str, object]) -> dict[str, object]:
    """Accepts the order when this session commits; gives what is known by then."""
    return session.scalar(select(func.api.submit_order(json.dumps(order), type_=JSON)))


def wait_for_outcome(engine, key: str, seconds: float) -> dict[str, object]:
    """The outcome as soon as there is one, often within milliseconds; after so many seconds, what is known."""
    deadline = time.monotonic() + seconds
    while True:
        with Session(engine) as session:
            outcome = session.scalar(select(func.api.order_outcome(key, type_=JSON)))
        if outcome["status"] != "accepted" or time.monotonic() > deadline:
            return outcome
        time.sleep(0.02)


order = {
    "version": 1,
    "key": f"checkout-{uuid.uuid4()}",
    "customer": "C-1",
    "pool": "SAMPLE",
    "lines": [{"sku": "TEA-100", "quantity": 1}, {"sku": "CUP-1", "quantity": 2}],
}
if "DATABASE_URL" not in os.environ:
    sys.exit("set DATABASE_URL to what `make up` prints")
engine = create_engine(make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+psycopg"))
Base.metadata.create_all(engine)

with Session(engine) as session, session.begin() as transaction:
    session.add(Checkout(key=order["key"]))
    outcome = submit(session, order)
    if outcome["status"] == "refused":  # only where the pool has a limit: nothing is stored, send it again later
        transaction.rollback()

if outcome["status"] == "accepted":
    outcome = wait_for_outcome(engine, order["key"], 30)
print(json.dumps(outcome, indent=2))
