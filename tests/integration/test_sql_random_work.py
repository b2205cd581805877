"""Anything that can happen, happening at random on several connections at once, leaves the shop clean."""

import json
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.shop import Shop, new_key, order, typed
from tests.waiting import at_once
from workers.database import connect
from workers.retry import QUICK

SKUS = ("A", "B", "C", "D", "E")
PLACES = {"EAST": ("E1", "E2", "E3"), "WEST": ("W1",)}
SESSIONS = 6
STEPS = 200
DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"


class Actor:
    """One session that does one random thing after another, as workers and applications would."""

    def __init__(self, session: psycopg.Connection[Any], seed: int, pools: dict[str, int], seen: list[str]) -> None:
        self.session = session
        self.random = random.Random(seed)
        self.pools = pools
        self.seen = seen  # keys of all actors, so that they get into each other's way
        self.done: Counter[str] = Counter()
        self.retried: list[str] = []

    def act(self) -> None:
        deeds: list[Callable[[], None]] = [
            *[self.place] * 3, *[self.place_one] * 2, *[self.submit] * 3, *[self.drain] * 3, self.lose_claim,
            self.sweep,
            self.hold, self.confirm, self.cancel, self.complete, self.expire,
            self.adjust, self.receive, self.transfer, self.again,
        ]  # fmt: skip
        deed = self.random.choice(deeds)
        for _ in range(10):
            try:
                return deed()
            except psycopg.Error as error:
                if error.sqlstate not in QUICK:
                    raise
                self.retried.append(f"{deed.__name__}: {error.sqlstate} {error.diag.context}")
        raise AssertionError(f"{deed.__name__} fails each time: {self.retried[-10:]}")

    def run(self, query: str, *arguments: object) -> list[Any]:
        rows = [row[0] for row in self.session.execute(query.encode(), arguments).fetchall()]
        for row in rows:
            if isinstance(row, dict):
                self.done[f"{row['status']} {row['code'] or ''}".strip()] += 1
        return rows

    def request(self) -> dict[str, Any]:
        pool = self.random.choice(["EAST", "EAST", "WEST"])
        wanted = self.random.choices(SKUS, k=self.random.randint(1, 4))
        key = new_key()
        self.seen.append(key)
        return order(key, *((sku, self.random.randint(1, 4)) for sku in wanted), pool=pool)

    def some_order(self) -> str | None:
        found = self.session.execute(
            "SELECT id FROM shop.orders WHERE status IN ('held', 'placed') ORDER BY md5(id::text || %s) LIMIT 1",
            [str(self.random.random())],
        ).fetchone()
        return str(found[0]) if found else None

    def place(self) -> None:
        requests = [self.request() for _ in range(self.random.randint(1, 8))]
        self.run("SELECT api.place_orders(%s)", Jsonb([typed(each) for each in requests]))

    def place_one(self) -> None:
        self.run("SELECT api.place_order(%s)", Jsonb(typed(self.request())))

    def submit(self) -> None:
        requests = [self.request() for _ in range(self.random.randint(1, 6))]
        self.run("SELECT api.submit_orders(%s::text[])", [json.dumps(each) for each in requests])

    def claim(self) -> Any:
        pool, limit = self.random.choice(list(self.pools.values())), self.random.randint(1, 8)
        query = "SELECT claim_id FROM api.claim_orders(%s, %s, 60)"
        return self.session.execute(query.encode(), [pool, limit]).fetchone()

    def drain(self) -> None:
        if claim := self.claim():
            self.run("SELECT api.place_claim(%s)", *claim)

    def lose_claim(self) -> None:
        """A drain that dies, or gives its claim back."""
        if claim := self.claim():
            if self.random.random() < 0.5:
                self.session.execute(
                    "UPDATE shop.claims SET leased_until = now() - interval '1 s' WHERE id = %s", claim
                )
            else:
                self.session.execute("SELECT api.return_claim(%s, 3, 'XX000', 'failed')", claim)

    def sweep(self) -> None:
        self.session.execute("SELECT api.sweep_claims(10, 3)")

    def hold(self) -> None:
        requests = [self.request() for _ in range(self.random.randint(1, 3))]
        held = self.run("SELECT api.hold_orders(%s)", Jsonb(requests))
        if self.random.random() < 0.5:
            # As time would do it: one order after another, each locked as any routine locks it.
            for each in held:
                self.session.execute(
                    """WITH o AS (SELECT id FROM shop.orders WHERE id = %s::uuid AND status = 'held' FOR NO KEY UPDATE)
                       UPDATE shop.order_allocations SET expires_at = clock_timestamp() - interval '1 s'
                       WHERE state = 'held' AND order_id IN (SELECT id FROM o)""",
                    [each["order_id"]],
                )

    def confirm(self) -> None:
        self.run("SELECT api.confirm_order(%s, %s::uuid)", new_key(), self.some_order())

    def cancel(self) -> None:
        self.run("SELECT api.cancel_order(%s, %s::uuid, 'random')", new_key(), self.some_order())

    def complete(self) -> None:
        self.run("SELECT api.complete_order(%s, %s::uuid)", new_key(), self.some_order())

    def expire(self) -> None:
        self.session.execute("SELECT api.expire_holds(%s)", [self.random.randint(1, 10)])

    def place_of(self) -> str:
        return self.random.choice([place for places in PLACES.values() for place in places])

    def adjust(self) -> None:
        arguments = (new_key(), self.random.choice(SKUS), self.place_of(), self.random.randint(-5, 5))
        self.run("SELECT api.adjust_inventory(%s, %s, %s, %s, 'random')", *arguments)

    def receive(self) -> None:
        lines = [{"sku": self.random.choice(SKUS), "quantity": self.random.randint(1, 9)} for _ in range(3)]
        source = self.random.choice(["supplier", "supplier", "in_transit"])
        self.run("SELECT api.receive_stock(%s, %s, %s, %s)", new_key(), self.place_of(), Jsonb(lines), source)

    def transfer(self) -> None:
        arguments = (self.random.choice(SKUS), self.place_of(), self.place_of(), self.random.randint(1, 5))
        query = "SELECT api.transfer_stock(%s, %s, %s, %s, %s, %s)"
        self.run(query, new_key(), *arguments, self.random.random() < 0.5)

    def again(self) -> None:
        """Something that somebody has sent before, by the other door."""
        if self.seen:
            key = self.random.choice(self.seen)
            self.run("SELECT api.place_order(%s)", Jsonb(typed(order(key, ("A", 1)))))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_work_on_several_connections_leaves_the_shop_clean(shop: Shop, database_url: str, seed: int) -> None:
    rolls = random.Random(seed)
    for sku in SKUS:
        for place in (place for places in PLACES.values() for place in places):
            if rolls.random() < 0.7:
                shop.stock(
                    sku, place, rolls.randint(0, 40), cap=rolls.choice([0, 0, 5]), threshold=rolls.choice([None, 5])
                )
            else:
                shop.stock(sku, "E1", 10)
    pools = {code: shop.pool_id(code) for code in PLACES}
    seen: list[str] = []
    findings: list[Any] = []

    def work(number: int) -> Actor:
        with connect(database_url) as session:
            session.execute("SET ROLE ordermill_owner")
            actor = Actor(session, seed * 100 + number, pools, seen)
            for step in range(STEPS):
                actor.act()
                if number == 0 and step % 20 == 0:  # at work, too
                    findings.extend(session.execute("SELECT * FROM api.verify()").fetchall())
        return actor

    actors = at_once(SESSIONS, work)

    assert findings == []
    assert shop.verify() == []
    # Our own routines lock in one order: none of them deadlocks with another. Only plenty that was gone is tried again.
    assert [state for actor in actors for state in actor.retried if "take_stock" not in state] == []
    assert shop.value(DEADLOCKS) == 0
    done: Counter[str] = sum((actor.done for actor in actors), Counter())
    assert {"placed", "rejected OM001", "held", "done", "accepted"} <= set(done), done
    while (shop.expire_claims() or shop.sweep()) or shop.drain("EAST") or shop.drain("WEST"):
        pass
    assert (shop.count("order_queue"), shop.count("claims")) == (0, 0)
    assert shop.value("SELECT count(*) FROM shop.request_keys WHERE status = 'pending'") == 0
