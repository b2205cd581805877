"""Compares what applications noted with what is in the tables: it trusts neither an answer nor a routine.

It looks when nothing is at work any more. `before` is what a shop at rest had when the round began.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.faults.storm.journal import Note
from tests.shop import Shop

KINDS = ("lost", "doubled", "oversold", "reordered", "left", "wrong")
PROBE_SECONDS = 1.0  # what is sent so soon after the end of a fault shows when the system is itself again


@dataclass(frozen=True)
class Contradiction:
    """Where the notes and the tables do not agree: `entry` is a key, a sku, a stream or the name of a place."""

    kind: str
    entry: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.entry}: {self.detail}"


@dataclass(frozen=True)
class Before:
    """The shop at rest before the round: available units by sku, all locations together, and the last position."""

    available: dict[str, int]
    position: int

    @classmethod
    def of(cls, shop: Shop) -> "Before":
        """As it is now."""
        return cls(available(shop), int(shop.value("SELECT position FROM shop.event_head")))


@dataclass
class Verdict:
    """What a round came to."""

    intents: int = 0
    placed: int = 0
    rejected: int = 0
    dead: int = 0
    done: int = 0
    resent: dict[str, int] = field(default_factory=dict)
    contradictions: list[Contradiction] = field(default_factory=list)

    def count(self, kind: str) -> int:
        """How many contradictions are of a kind."""
        return sum(each.kind == kind for each in self.contradictions)

    @property
    def clean(self) -> bool:
        """Whether nothing contradicts."""
        return not self.contradictions


@dataclass
class Wish:
    """All that was noted of one key."""

    key: str
    kind: str
    body: dict[str, Any]
    door: str
    accepted: bool = False  # an application was told so by the SQL door, after its commit
    answers: list[dict[str, Any]] = field(default_factory=list)
    again_after_accepted: bool = False


def available(shop: Shop) -> dict[str, int]:
    """Units that can be sold, by sku."""
    return {
        row["sku"]: int(row["units"])
        for row in shop.maps(
            "SELECT v.sku, sum(s.available) AS units FROM shop.stock_levels AS s"
            " JOIN shop.product_variants AS v ON v.id = s.variant_id GROUP BY v.sku"
        )
    }


def wishes(notes: Iterable[Note]) -> dict[str, Wish]:
    """The notes by key."""
    found: dict[str, Wish] = {}
    for note in notes:
        key = note["key"]
        if note["e"] == "intent":
            found.setdefault(key, Wish(key, note["kind"], note["body"], note["door"]))
        elif note["e"] == "sent" and note["door"] == "sql":
            found[key].accepted = True
        elif note["e"] == "again" and note["door"] == "sql":
            found[key].again_after_accepted |= found[key].accepted
            found[key].accepted = True
        elif note["e"] == "answer":
            found[key].answers.append(note["answer"])
    return found


def load_worked(notes: Iterable[Note], doors: Iterable[str], least: int) -> Iterable[Contradiction]:
    """Each door took something, and so many things were wished for: a round without a load shows nothing."""
    wished, taken = Counter[str](), Counter[str]()
    for note in notes:
        wished[note["door"]] += note["e"] == "intent"
        taken[note["door"]] += note["e"] in {"sent", "again"}
    for door in doors:
        if not taken[door] or wished[door] < least:
            yield Contradiction("wrong", f"load by {door}", f"only {wished[door]} intents, {taken[door]} taken")


def resent(notes: Iterable[Note]) -> dict[str, int]:
    """How often an unknown key was sent again, by door."""
    return dict(sorted(Counter(note["door"] for note in notes if note["e"] == "again").items()))


def judge(
    notes: list[Note],
    shop: Shop,
    before: Before,
    waiting: dict[str, int],
    *,
    events: bool = True,
    may_be_dead: bool = False,
) -> Verdict:
    """The verdict on a round.

    `waiting`: what `Rig.at_rest` found left. `events`: whether they are dispatched. `may_be_dead`: a fault that sends
    poison checks by itself who is dead; with all others nobody may be.
    """
    asked = wishes(notes)
    verdict = Verdict(intents=len(asked), resent=resent(notes))
    facts = Facts(shop, list(asked))
    found = verdict.contradictions
    wanted = units_wanted(asked.values())
    for wish in asked.values():
        found += decided_once(wish, facts)
        found += with_reason(wish, facts, before, wanted, may_be_dead)
        outcome = facts.answers.get(wish.key) or {}
        if outcome.get("status") in {"placed", "rejected", "dead", "done"}:
            setattr(verdict, outcome["status"], getattr(verdict, outcome["status"]) + 1)
    found += stock_adds_up(asked, facts, before, available(shop))
    if events:
        found += events_came(facts, shop, before)
    found += [Contradiction("left", name, f"{count} left") for name, count in waiting.items()]
    found += [Contradiction("wrong", str(name), f"verify: {entry}: {detail}") for name, entry, detail in shop.verify()]
    return verdict


class Facts:
    """What the tables say of these keys."""

    def __init__(self, shop: Shop, keys: list[str]) -> None:
        rows = shop.maps("SELECT key, answer FROM shop.request_keys WHERE key = ANY(%s)", keys)
        self.answers: dict[str, dict[str, Any] | None] = {row["key"]: row["answer"] for row in rows}
        self.known = set(self.answers)
        self.orders: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.key_of: dict[str, str] = {}
        for row in shop.maps(
            "SELECT o.key, o.id::text, o.status, (SELECT jsonb_object_agg(v.sku, l.quantity) FROM shop.order_lines AS l"
            " JOIN shop.product_variants AS v ON v.id = l.variant_id WHERE l.order_id = o.id"
            " AND l.id BETWEEN o.id AND shop.part_id(o.id, 65535)) AS lines"
            " FROM shop.orders AS o WHERE o.key = ANY(%s)",
            keys,
        ):
            self.orders[row["key"]].append(row)
            self.key_of[row["id"]] = row["key"]
        # What a key moved: in and out of what can be sold.
        self.moved: dict[str, int] = {
            row["request_key"]: int(row["units"])
            for row in shop.maps(
                "SELECT request_key, sum(quantity) AS units FROM shop.stock_movements WHERE request_key = ANY(%s)"
                " AND to_account = 'available' GROUP BY request_key",
                keys,
            )
        }
        rows = shop.maps("SELECT key, count(*) AS n FROM shop.dead_letters WHERE key = ANY(%s) GROUP BY key", keys)
        self.letters = {row["key"]: int(row["n"]) for row in rows}


def decided_once(wish: Wish, facts: Facts) -> Iterable[Contradiction]:
    """Exactly one of placed, rejected and dead, or for a command done and rejected; at most one effect; one answer."""
    answer, orders = facts.answers.get(wish.key), facts.orders.get(wish.key, [])
    if answer is None:
        state = "is not decided" if wish.key in facts.known else "is unknown"
        yield Contradiction("lost", wish.key, f"{wish.kind} by {wish.door} {state}")
        return
    if wish.again_after_accepted:
        yield Contradiction("lost", wish.key, "was accepted by the SQL door, and unknown afterwards")
    told = {(each["status"], each.get("order_id"), each.get("code")) for each in [*wish.answers, answer]}
    if len(told) > 1:
        yield Contradiction("wrong", wish.key, f"has several answers: {sorted(map(str, told))}")
    status = answer["status"]
    if wish.kind in {"place", "bad"}:
        yield from effects_of_order(wish, status, answer, orders, facts.letters.get(wish.key, 0))
    elif status not in {"done", "rejected"}:
        yield Contradiction("wrong", wish.key, f"{wish.kind} is {status}")
    elif wish.kind == "restock":
        units = sum(line["quantity"] for line in wish.body["lines"]) if status == "done" else 0
        yield from moved_once(wish, units, facts.moved.get(wish.key, 0))
    elif status == "done":
        key = facts.key_of.get(wish.body["order_id"], "")
        [order] = facts.orders.get(key) or [{"status": "gone", "lines": {}}]
        if order["status"] != "cancelled":
            yield Contradiction(
                "lost", wish.key, f"is done, and its order {wish.body['order_id']} is {order['status']}"
            )
        yield from moved_once(wish, sum((order["lines"] or {}).values()), facts.moved.get(wish.key, 0))


def units_wanted(asked: Iterable[Wish]) -> Counter[str]:
    """Units by sku that orders ask for, whatever became of them."""
    found: Counter[str] = Counter()
    for wish in asked:
        for line in wish.body["lines"] if wish.kind == "place" else ():
            found[line["sku"]] += line["quantity"]
    return found


def with_reason(
    wish: Wish, facts: Facts, before: Before, wanted: Counter[str], may_be_dead: bool
) -> Iterable[Contradiction]:
    """Who was refused had to be: a good order for want of units, a cancel of what is cancelled; no receipt at all.

    Else a shop that refuses everybody would be without contradiction.
    """
    answer = facts.answers.get(wish.key) or {}
    status, code = answer.get("status"), answer.get("code")
    if status == "dead" and not may_be_dead:
        yield Contradiction("wrong", wish.key, f"is dead, and is no poison: {answer.get('message')}")
    if status != "rejected" or wish.kind == "bad":
        return
    if wish.kind == "place":
        scarce = any(wanted[line["sku"]] > before.available.get(line["sku"], 0) for line in wish.body["lines"])
        justified = code == "OM001" and scarce
    elif wish.kind == "cancel":
        orders = facts.orders.get(facts.key_of.get(wish.body["order_id"], ""), [])
        justified = bool(orders) and orders[0]["status"] == "cancelled"
    else:
        justified = False
    if not justified:
        yield Contradiction(
            "wrong", wish.key, f"{wish.kind} was rejected for no reason: {code} {answer.get('message')}"
        )


def effects_of_order(
    wish: Wish, status: str, answer: dict[str, Any], orders: list[dict[str, Any]], letters: int
) -> Iterable[Contradiction]:
    """One order where it is placed, with what was asked for; none where it is not."""
    wanted = {"placed": 1, "rejected": 0, "dead": 0}.get(status)
    if wanted is None or (wish.kind == "bad" and status != "rejected"):
        yield Contradiction("wrong", wish.key, f"{wish.kind} is {status}")
        return
    if len(orders) > wanted:
        yield Contradiction("doubled", wish.key, f"is {status}, and has {len(orders)} orders")
    elif len(orders) < wanted:
        yield Contradiction("lost", wish.key, "is placed, and has no order")
    elif orders:
        lines: Counter[str] = Counter()
        for line in wish.body["lines"]:
            lines[line["sku"]] += line["quantity"]
        if orders[0]["id"] != answer["order_id"] or dict(lines) != orders[0]["lines"]:
            yield Contradiction("wrong", wish.key, f"its order is {orders[0]}, asked was {dict(lines)}")
    if status == "dead" and not letters:
        yield Contradiction("lost", wish.key, "is dead, and has no dead letter")


def moved_once(wish: Wish, units: int, moved: int) -> Iterable[Contradiction]:
    """As many units came back, or in, as it says."""
    if moved != units:
        kind = "doubled" if moved > units else "lost"
        yield Contradiction(kind, wish.key, f"{wish.kind} moved {moved} units, not {units}")


def stock_adds_up(asked: dict[str, Wish], facts: Facts, before: Before, now: dict[str, int]) -> Iterable[Contradiction]:
    """Start = now + sold - returned - restocked, and never below zero: sold is what applications asked for."""
    expected = Counter(before.available)
    for wish in asked.values():
        answer = facts.answers.get(wish.key) or {}
        if wish.kind == "restock" and answer.get("status") == "done":
            for line in wish.body["lines"]:
                expected[line["sku"]] += line["quantity"]
        elif answer.get("status") == "placed":
            for line in wish.body["lines"]:
                expected[line["sku"]] -= line["quantity"]
        elif wish.kind == "cancel" and answer.get("status") == "done":
            cancelled = asked.get(facts.key_of.get(wish.body["order_id"], ""))
            for line in cancelled.body["lines"] if cancelled else []:
                expected[line["sku"]] += line["quantity"]
    yield from (
        Contradiction("lost", sku, "has no stock level any more") for sku in before.available.keys() - now.keys()
    )
    # Skus that are neither old nor in a note are a fault's own.
    for sku in now.keys() & expected.keys():
        units = now[sku]
        if units < 0 or expected[sku] < 0:
            yield Contradiction("oversold", sku, f"{units} available, {expected[sku]} by what was sold")
        if units != expected[sku]:
            kind = "doubled" if units < expected[sku] else "lost"
            yield Contradiction(kind, sku, f"{units} available, {expected[sku]} by what was sold and returned")


def events_came(facts: Facts, shop: Shop, before: Before) -> Iterable[Contradiction]:
    """Each order's steps were told once each and in order, and the consumer took each position once and in order."""
    rows = shop.maps("SELECT position, stream, kind FROM shop.noted WHERE position > %s ORDER BY seq", before.position)
    last = int(shop.value("SELECT position FROM shop.event_head"))
    times = Counter(row["position"] for row in rows)
    for position in range(before.position + 1, last + 1):
        if times[position] != 1:
            kind = "doubled" if times[position] > 1 else "lost"
            yield Contradiction(kind, f"event {position}", f"its consumer took it {times[position]} times")
    streams: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        streams[row["stream"]].append(row)
    for stream, told in streams.items():
        positions = [row["position"] for row in told]
        if positions != sorted(positions):
            yield Contradiction("reordered", stream, f"was told as {positions}")
    for order_id, key in facts.key_of.items():
        stream = f"order:{order_id}"
        kinds = [row["kind"] for row in streams.get(stream, [])]
        [status] = [order["status"] for order in facts.orders[key] if order["id"] == order_id]
        expected = ["order.placed"] + ([f"order.{status}"] if status != "placed" else [])
        if kinds != expected:
            missing, more = Counter(expected) - Counter(kinds), Counter(kinds) - Counter(expected)
            kind = "lost" if missing else "doubled" if more else "reordered"
            yield Contradiction(kind, stream, f"was told as {kinds}, and is {status}")


def recovery(notes: list[Note], ended: float) -> float:
    """Seconds from the end of the fault until all that was outstanding then, and each door's first probes, are decided.

    Probes are what is sent within a second after the end. Infinite where one of them is not decided.
    """
    asked_at: dict[str, float] = {}
    decided_at: dict[str, float] = {}
    for note in notes:
        if note["e"] == "intent":
            asked_at.setdefault(note["key"], note["t"])
        elif note["e"] == "answer":
            decided_at.setdefault(note["key"], note["t"])
    last = [decided_at.get(key, float("inf")) for key, at in asked_at.items() if at <= ended + PROBE_SECONDS]
    return max(0.0, max(last, default=ended) - ended)
