"""Faults 23 to 25: many buyers of one unit and locks in opposite orders, orders that nobody can take, and junk."""

from collections import Counter
from collections.abc import Iterable
from random import Random
from typing import Any

import psycopg
import stamina

from tests.faults.storm.buyers import Buyers
from tests.faults.storm.fault import Stop, fault
from tests.faults.storm.load import Database
from tests.faults.storm.oracle import Contradiction
from tests.faults.storm.plan import LOCATION, PLENTY, SKUS
from tests.faults.storm.rig import Rig
from tests.fuzz import Fuzzer
from tests.fuzz_ends import Ends, left, push
from tests.fuzz_messages import SKU as FUZZED
from tests.fuzz_orders import Text, texts
from tests.workers_fixtures import lock_levels
from workers.child import wait_until

BUYERS = 100


# 23


def one_unit(rig: Rig, buyers: Buyers, sku: str) -> None:
    """A hundred want it, half by each door, and none is decided before all have asked."""
    buyers.open_sku(sku, 1)
    wanted = [buyers.wanting((sku, 1)) for _ in range(BUYERS)]
    with rig.mill.locked_stock(sku):
        buyers.send("celery", "place", wanted[::2])
        buyers.send("sql", "place", wanted[1::2])
    rig.parts.setdefault("last units", {})[sku] = buyers.answers([body["key"] for body in wanted])


def crossed_locks(rig: Rig, chance: Random) -> None:
    """A session takes levels in the order that no routine does, so that whoever meets it is in a deadlock."""
    first, second = sorted(chance.sample(SKUS[4:], 2))
    victim = chance.choice(["theirs", "ours"])
    with rig.admin() as session, rig.admin() as other:
        session.execute(f"SET deadlock_timeout = '{'20s' if victim == 'theirs' else '10ms'}'")
        session.execute("SET lock_timeout = '5s'")
        try:
            with session.transaction():
                lock_levels(session, second)
                wait_until(lambda: waiting_for(other, session), 2, 0.01)
                lock_levels(session, first)
        except (psycopg.errors.DeadlockDetected, psycopg.errors.LockNotAvailable):
            pass


def waiting_for(other: psycopg.Connection[Any], session: psycopg.Connection[Any]) -> bool:
    """Whether a worker waits for this session."""
    query = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid)))"
    return other.execute(query, [session.info.backend_pid]).fetchone() == (True,)


def deadlocks(rig: Rig) -> int:
    """How many PostgreSQL has counted."""
    with rig.admin() as session:
        query = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        return int((session.execute(query).fetchone() or (0,))[0])


def one_got_it(rig: Rig, _seed: str) -> Iterable[Contradiction]:
    """Of the buyers of one unit one has it, and the others were told that there is none."""
    for sku, outcomes in rig.parts.pop("last units", {}).items():
        ends = Counter((each["status"], each["code"]) for each in outcomes.values())
        if ends != {("placed", None): 1, ("rejected", "OM001"): BUYERS - 1}:
            kind = "oversold" if ends[("placed", None)] > 1 else "wrong"
            yield Contradiction(kind, sku, f"of {BUYERS} buyers of one unit came {dict(ends)}")


@fault(23, "100 buyers of one unit; reversed locks", resends=False, check=one_got_it)
def contended(rig: Rig, chance: Random, stop: Stop) -> int:
    """By turns: a hundred buyers of one unit; levels locked against the order in which everybody locks them."""
    buyers, before, units = Buyers(rig), deadlocks(rig), 0
    while not units or not stop.is_set():
        units += 1
        one_unit(rig, buyers, f"LAST-{rig.seed}-{units}")
        for _ in range(3):
            crossed_locks(rig, chance)
    return units * BUYERS + deadlocks(rig) - before


# 24

STATES = ("22012", "22P02", "23505", "P0001", "XX000")
POISON = """
CREATE OR REPLACE FUNCTION shop.poison() RETURNS trigger LANGUAGE plpgsql
AS $$ BEGIN RAISE EXCEPTION 'this row is poison' USING ERRCODE = TG_ARGV[0]; END $$"""
ON_A_SKU = """
CREATE TRIGGER poison_{state} BEFORE INSERT ON shop.{table} FOR EACH ROW WHEN (new.variant_id = {variant})
EXECUTE FUNCTION shop.poison('{state}')"""


def poisoned_skus(rig: Rig, chance: Random, buyers: Buyers) -> list[str]:
    """Skus that cannot be written, each for another reason; one in the lines, others later, where stock is moved."""
    rig.mill.shop.db.execute(POISON)
    skus = []
    for state in STATES:
        sku = f"POISON-{state}-{rig.seed}"
        buyers.open_sku(sku, PLENTY)
        variant = rig.mill.shop.value("SELECT id FROM shop.product_variants WHERE sku = %s", sku)
        table = chance.choice(["order_lines", "order_allocations", "stock_movements"])
        rig.mill.shop.db.execute(ON_A_SKU.format(state=state, table=table, variant=variant).encode())
        skus.append(sku)
    return skus


def only_poison_is_dead(rig: Rig, seed: str) -> Iterable[Contradiction]:
    """Each of the bad is a dead letter with its payload, none else of the round is."""
    bad = rig.parts.pop("poison", {})
    for key, outcome in bad.items():
        if (outcome["status"], outcome["code"]) != ("dead", "OM090"):
            yield Contradiction("wrong", key, f"is poison, and is {outcome['status']} {outcome['code']}")
    with rig.looking() as shop:
        letters = shop.maps("SELECT key, code, payload FROM shop.dead_letters WHERE key LIKE %s", f"{seed}:%")
    for letter in letters:
        if letter["key"] not in bad:
            yield Contradiction("wrong", letter["key"], f"is a dead letter {letter['code']}, and is no poison")
        elif letter["payload"].get("key") != letter["key"]:
            yield Contradiction("lost", letter["key"], f"its letter has another payload: {letter['payload']}")


@fault(
    24,
    "poison order, permanent SQLSTATE",
    resends=False,
    poisons=True,
    orders_app="tests.faults.storm.poison_app",
    check=only_poison_is_dead,
)
def poison(rig: Rig, chance: Random, stop: Stop) -> int:
    """Orders that the database refuses for good, by both doors, and one that kills whoever is about to place it."""
    buyers = Buyers(rig)
    found = rig.parts.setdefault("poison", {})
    try:
        skus = poisoned_skus(rig, chance, buyers)
        while not found or not stop.is_set():
            bad = [buyers.wanting((chance.choice(SKUS[4:]), 1), (sku, 1)) for sku in skus]
            deadly = buyers.wanting((SKUS[5], 1))
            deadly["key"] += "-deadly"
            for door in ("celery", "sql"):
                buyers.send(door, "place", bad[door == "sql" :: 2])
            buyers.send("celery", "place", [deadly])
            keys = [body["key"] for body in (*bad, deadly)]
            found |= with_others(rig, buyers, keys)
    finally:
        for attempt in stamina.retry_context(on=psycopg.errors.DeadlockDetected):
            with attempt:  # it locks its tables one after the other, while orders are placed
                rig.mill.shop.db.execute("DROP FUNCTION IF EXISTS shop.poison() CASCADE")
    return len(found)


def with_others(rig: Rig, buyers: Buyers, keys: list[str]) -> dict[str, Any]:
    """The answers; whoever dies meanwhile is replaced, as a supervisor does."""

    def decided() -> bool:
        rig.mend()
        outcomes = buyers.database.outcomes(keys)
        return all(outcome and outcome["status"] != "accepted" for outcome in outcomes.values())

    wait_until(decided, 60, 0.05)
    return buyers.answers(keys, 1.0)


# 25

CHUNK = 250
FUZZ_LEAST, FUZZ_MOST = 10_000, 12_000  # in a round of its full length, however slow the machine is
FULL_SECONDS = 100


def each_ended_once(rig: Rig, _seed: str) -> Iterable[Contradiction]:
    """Each item has ended in one way, and each text has its outcome; what was good was placed."""
    ends = Ends(rig.mill, rig.parts.pop("items", []))
    for entry, ways in ends.wrong():
        yield Contradiction("lost" if len(ways) < 2 else "wrong", entry, f"ended as {ways}")
    for text, told in rig.parts.pop("texts", []):
        done = ends.outcomes.get(told["key"] or "")
        # Junk may be a key that was used before, and the answer that of its first time.
        repeated = told["key"] != text.key and told["status"] == done == "placed"
        if (told["status"] not in {"accepted", "rejected"} and not repeated) or (text.good and done != "placed"):
            yield Contradiction("wrong", text.key, f"{text.kind} was told {told}, and is {done}: {text.text[:200]}")
        elif told["status"] == "accepted" and done not in {"placed", "rejected"}:
            yield Contradiction("lost", text.key, f"{text.kind} was accepted, and is {done}")


@fault(25, "fuzzed payloads, both doors", seconds=150.0, load=False, own=(FUZZED,), check=each_ended_once)
def fuzzed(rig: Rig, chance: Random, stop: Stop) -> int:
    """Messages and texts that nobody should send, among good ones, by both doors: 10,000 in a full round at least."""
    least = FUZZ_LEAST if stop.left > FULL_SECONDS else 1
    if not rig.mill.shop.value("SELECT EXISTS (SELECT FROM shop.product_variants WHERE sku = %s)", FUZZED):
        rig.mill.shop.stock(FUZZED, LOCATION, PLENTY)
    items = rig.parts["items"] = []
    told: list[tuple[Text, dict[str, Any]]] = []
    rig.parts["texts"] = told
    database = Database(rig.seen_database_url)
    while (count := len(items) + len(told)) < least or (not stop.is_set() and count < FUZZ_MOST):
        some = Fuzzer(chance.getrandbits(32)).items(2 * CHUNK)
        push(rig.mill, some)
        items += some
        told += offered(database, chance, f"{rig.seed}:s{len(told)}-")
        assert wait_until(lambda: not left(rig.mill) or bool(rig.died()), 60, 0.05), left(rig.mill)
        assert not rig.died()
    return len(items) + len(told)


def offered(database: Database, chance: Random, prefix: str) -> list[tuple[Text, dict[str, Any]]]:
    """A chunk of texts to the SQL door, one by one and many in a call; each with what it was told."""
    wanted = texts(chance.getrandbits(32), CHUNK, prefix)
    answers: list[dict[str, Any]] = []
    while len(answers) < len(wanted):
        part = wanted[len(answers) :][: chance.choice([1, 1, 1, 7, 40])]
        query = "SELECT api.submit_order(%s::text)" if len(part) == 1 else "SELECT api.submit_orders(%s::text[])"
        given = part[0].text if len(part) == 1 else [text.text for text in part]
        rows = database.run(lambda session, query=query, given=given: session.execute(query, [given]).fetchall())
        answers += [row[0] for row in rows]
    return list(zip(wanted, answers, strict=True))
