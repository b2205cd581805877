"""The oracle of `make faults` is shown to notice: each test breaks a clean shop in one way that it must find."""

import json
from pathlib import Path
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from tests.faults.storm.fault import all_faults
from tests.faults.storm.journal import Journal, read
from tests.faults.storm.oracle import Before, Verdict, judge, load_worked, recovery
from tests.faults.storm.plan import BADS, SKUS, intent
from tests.faults.storm.run import Round, Row, save
from tests.noted import add_noted
from tests.shop import Shop, order, typed

pytestmark = pytest.mark.breaks_the_shop
Note = dict[str, Any]
FIELDS = ("fault", "name", "rounds", "injected", "lost", "doubled", "oversold", "recovery_s")


class World:
    """A shop, and what an application has noted of it."""

    def __init__(self, shop: Shop) -> None:
        self.shop, self.notes, self.before = shop, list[Note](), Before({}, 0)

    def open(self) -> None:
        self.shop.stock("A", "E1", 100)
        self.shop.stock("B", "E1", 100)
        add_noted(self.shop)
        self.shop.db.execute("ALTER TABLE shop.noted ADD COLUMN seq bigint GENERATED ALWAYS AS IDENTITY")
        self.before = Before.of(self.shop)

    def note(self, event: str, key: str, door: str = "celery", **more: Any) -> None:
        self.notes.append({"t": float(len(self.notes)), "e": event, "key": key, "door": door} | more)

    def wish(self, key: str, *lines: tuple[str, int], door: str = "celery") -> dict[str, Any]:
        """Notes an order, and gives its body."""
        body = order(key, *lines)
        self.note("intent", key, door, n=0, kind="place", body=body)
        self.note("sent", key, door)
        return body

    def place(self, key: str, *lines: tuple[str, int]) -> str:
        """An order that is placed, and noted; gives its id."""
        [outcome] = self.shop.place(self.wish(key, *lines))
        self.note("answer", key, answer=outcome)
        return str(outcome["order_id"])

    def cancel(self, key: str, order_id: str) -> None:
        body = {"key": key, "order_id": order_id, "reason": "changed their mind"}
        self.note("intent", key, n=0, kind="cancel", body=body)
        self.note("answer", key, answer=self.shop.cancel(order_id, key))

    def restock(self, key: str, sku: str, quantity: int) -> None:
        lines = [{"sku": sku, "quantity": quantity}]
        self.note("intent", key, n=0, kind="restock", body={"key": key, "location": "E1", "lines": lines})
        receive = "SELECT api.receive_stock(%s, 'E1', %s)"
        self.note("answer", key, answer=self.shop.value(receive, key, Jsonb(lines)))

    def dispatch(self) -> None:
        while self.shop.value("SELECT api.sequence_events(1000)"):
            pass
        while self.shop.value("SELECT api.dispatch_events('noted', 500)"):
            pass

    def verdict(self, **waiting: int) -> Verdict:
        return judge(self.notes, self.shop, self.before, waiting)


@pytest.fixture
def world(scratch: Shop) -> World:
    """Two orders placed, one of them cancelled, and goods booked in: all told, and without contradiction."""
    made = World(scratch)
    made.open()
    made.place("k-1", ("A", 2), ("B", 1))
    made.cancel("c-1", made.place("k-2", ("A", 3)))
    made.restock("r-1", "B", 7)
    made.dispatch()
    found = made.verdict()
    assert found.clean, found.contradictions
    assert (found.placed, found.done, found.intents) == (2, 2, 4)
    return made


def found(world: World, **waiting: int) -> set[tuple[str, str]]:
    return {(each.kind, each.entry) for each in world.verdict(**waiting).contradictions}


def test_an_order_that_is_nowhere_is_lost(world: World) -> None:
    world.wish("k-9", ("A", 1))

    assert found(world) == {("lost", "k-9")}


def test_an_order_that_waits_for_ever_is_lost(world: World) -> None:
    world.shop.submit(world.wish("k-9", ("A", 1)))

    assert found(world) == {("lost", "k-9")}


def test_an_order_that_was_accepted_and_had_to_be_sent_again_was_lost(world: World) -> None:
    world.note("sent", "k-1", "sql")
    world.note("again", "k-1", "sql")

    assert found(world) == {("lost", "k-1")}
    assert world.verdict().resent == {"sql": 1}


def test_a_placed_key_without_its_order_is_lost(world: World) -> None:
    world.shop.db.execute("UPDATE shop.orders SET key = 'another' WHERE key = 'k-1'")

    assert ("lost", "k-1") in found(world)


def test_two_orders_of_one_key_are_doubled_and_so_are_the_units_they_took(world: World) -> None:
    world.shop.place(order("k-twin", ("A", 2), ("B", 1)))
    world.shop.db.execute("UPDATE shop.orders SET key = 'k-1' WHERE key = 'k-twin'")
    world.dispatch()

    assert found(world) >= {("doubled", "k-1"), ("doubled", "A"), ("doubled", "B")}


def test_units_that_were_taken_twice_or_came_back_twice_do_not_add_up(world: World) -> None:
    levels = "UPDATE shop.stock_levels AS s SET available = available + %s FROM shop.product_variants AS v" + (
        " WHERE v.id = s.variant_id AND v.sku = %s"
    )
    world.shop.db.execute(levels, [-1, "A"])
    world.shop.db.execute(levels, [1, "B"])

    assert found(world) >= {("doubled", "A"), ("lost", "B")}


def test_less_than_nothing_in_stock_is_oversold(world: World) -> None:
    world.shop.db.execute("ALTER TABLE shop.stock_levels DROP CONSTRAINT never_oversold")
    world.shop.db.execute("UPDATE shop.stock_levels SET available = -1 WHERE available = 98")

    assert ("oversold", "A") in found(world)


@pytest.mark.parametrize(("key", "kind"), [("c-1", "cancel"), ("r-1", "restock")])
def test_a_command_that_moved_stock_twice_is_doubled(world: World, key: str, kind: str) -> None:
    world.shop.db.execute(
        "INSERT INTO shop.stock_movements SELECT shop.uuid7(), variant_id, from_location_id, from_account,"
        " to_location_id, to_account, quantity, cause, order_id, request_key, reason, moved_at"
        " FROM shop.stock_movements WHERE request_key = %s AND to_account = 'available'",
        [key],
    )

    assert ("doubled", key) in found(world), kind


def test_a_cancel_that_is_done_while_its_order_goes_on_is_lost(world: World) -> None:
    world.shop.db.execute("ALTER TABLE shop.orders DISABLE TRIGGER USER")
    world.shop.db.execute("UPDATE shop.orders SET status = 'placed' WHERE key = 'k-2'")

    assert ("lost", "c-1") in found(world)


def test_an_order_that_is_not_what_was_asked_for_is_wrong(world: World) -> None:
    [body] = [note["body"] for note in world.notes if note["e"] == "intent" and note["key"] == "k-1"]
    body["lines"][0]["quantity"] = 5

    assert ("wrong", "k-1") in found(world)


def test_two_answers_to_one_key_are_wrong(world: World) -> None:
    world.note("answer", "k-1", answer={"key": "k-1", "status": "rejected", "order_id": None, "code": "OM001"})

    assert found(world) == {("wrong", "k-1")}


def test_a_bad_order_that_is_placed_is_wrong(world: World) -> None:
    for note in world.notes:
        if note["e"] == "intent" and note["key"] == "k-1":
            note["kind"] = "bad"

    assert found(world) == {("wrong", "k-1")}


def test_a_dead_order_without_a_letter_is_lost(world: World) -> None:
    world.wish("k-9", ("A", 1))
    dead = '{"key": "k-9", "status": "dead", "order_id": null, "code": "OM090", "field": null, "message": null}'
    world.shop.db.execute(
        "INSERT INTO shop.request_keys (key, kind, body_hash, status, answer, decided_at)"
        " VALUES ('k-9', 'order.place', '', 'dead', %s, now())",
        [dead],
    )

    assert ("lost", "k-9") in found(world)


def test_an_event_that_its_consumer_never_had_is_lost(world: World) -> None:
    [(position, stream)] = world.shop.db.execute(
        "DELETE FROM shop.noted WHERE kind = 'order.cancelled' RETURNING position, stream"
    ).fetchall()

    assert found(world) == {("lost", f"event {position}"), ("lost", stream)}


def test_an_event_whose_effect_came_twice_is_doubled(world: World) -> None:
    [(position, stream)] = world.shop.db.execute(
        "INSERT INTO shop.noted (position, stream, kind) SELECT position, stream, kind FROM shop.noted"
        " WHERE kind = 'order.cancelled' RETURNING position, stream"
    ).fetchall()

    assert found(world) == {("doubled", f"event {position}"), ("doubled", stream)}


def test_events_of_an_order_that_changed_places_are_reordered(world: World) -> None:
    [stream] = world.shop.rows("SELECT stream FROM shop.noted WHERE kind = 'order.cancelled'")
    world.shop.db.execute(
        "UPDATE shop.noted SET seq = DEFAULT WHERE stream = %s AND kind = 'order.placed'", [stream]
    )  # as if it had been told last

    assert found(world) == {("reordered", stream)}


def test_an_order_that_is_refused_though_there_is_plenty_is_wrong(world: World) -> None:
    [outcome] = world.shop.place(world.wish("k-9", ("A", 1_000)))
    world.note("answer", "k-9", answer=outcome)
    assert found(world) == set()  # that is more than there is

    [body] = [note["body"] for note in world.notes if note["e"] == "intent" and note["key"] == "k-9"]
    body["lines"][0]["quantity"] = 1

    assert found(world) == {("wrong", "k-9")}


def test_a_cancel_that_is_refused_is_wrong_unless_its_order_is_cancelled(world: World) -> None:
    [placed, cancelled] = world.shop.rows("SELECT id::text FROM shop.orders WHERE key IN ('k-1', 'k-2') ORDER BY key")
    world.cancel("c-2", cancelled)
    assert found(world) == set()

    for note in world.notes:
        if note["e"] == "intent" and note["key"] == "c-2":
            note["body"]["order_id"] = placed

    assert found(world) == {("wrong", "c-2")}


def test_an_order_that_is_dead_and_no_poison_is_wrong(world: World) -> None:
    body = world.wish("k-9", ("A", 1))
    letter = world.shop.value("SELECT api.bury_order(%s, 'OM090', 'a test', 3)", Jsonb(typed(body)))
    world.note("answer", "k-9", answer=letter)

    assert found(world) == {("wrong", "k-9")}
    assert judge(world.notes, world.shop, world.before, {}, may_be_dead=True).clean


def test_a_sku_that_is_gone_is_lost(world: World) -> None:
    world.before.available["GONE"] = 1

    assert ("lost", "GONE") in found(world)


def test_a_round_whose_load_did_little_or_was_never_heard_is_wrong(world: World) -> None:
    world.wish("k-9", ("A", 1), door="sql")

    assert list(load_worked(world.notes, ["sql"], 1)) == []
    for door, least in (("sql", 2), ("amqp", 0)):
        assert [each.kind for each in load_worked(world.notes, [door], least)] == ["wrong"]


def test_a_fault_whose_round_failed_takes_the_place_of_an_older_row_that_was_clean(tmp_path: Path) -> None:
    fault, file = all_faults()[0], tmp_path / "faults.json"
    save([Row(fault, 7, [Round(fault, "7:1:1", 3, Verdict(intents=9), 0.5)])], file)
    [clean] = json.loads(file.read_text())
    assert {name: clean[name] for name in FIELDS} == dict(zip(FIELDS, (1, fault.name, 1, 3, 0, 0, 0, 0.5), strict=True))
    assert clean["first"] is None

    save([Row(fault, 7, ended="ended early: OSError()")], file)

    [failed] = json.loads(file.read_text())
    assert (failed["rounds"], failed["first"]) == (0, "ended early: OSError()")


def test_what_is_left_in_a_queue_is_named(world: World) -> None:
    assert found(world, claims=1, orders=2) == {("left", "claims"), ("left", "orders")}


def test_what_verify_finds_is_found(world: World) -> None:
    world.shop.db.execute("UPDATE shop.stock_levels SET held = held + 1 WHERE available = 98")

    assert {kind for kind, _ in found(world)} == {"wrong"}


def test_recovery_is_over_when_what_was_outstanding_and_the_first_probes_are_decided() -> None:
    def asked(key: str, at: float) -> Note:
        return {"t": at, "e": "intent", "key": key}

    def answered(key: str, at: float) -> Note:
        return {"t": at, "e": "answer", "key": key}

    notes = [asked("before", 9.0), asked("probe", 10.5), asked("later", 12.0)]

    assert recovery([*notes, answered("before", 9.5), answered("probe", 10.7)], 10.0) == pytest.approx(0.7)
    assert recovery([*notes, answered("before", 13.0), answered("probe", 10.7)], 10.0) == pytest.approx(3.0)
    assert recovery([*notes, answered("before", 13.0)], 10.0) == float("inf")


def test_a_seed_and_a_number_give_the_same_intent_and_the_mixture_is_as_it_is_said() -> None:
    plan = [intent("7", n) for n in range(5000)]

    assert plan == [intent("7", n) for n in range(5000)]
    assert plan != [intent("8", n) for n in range(5000)]
    kinds = {kind: sum(each.kind == kind and each.repeats is None for each in plan) / 50 for kind in ("bad", "cancel")}
    repeated = sum(each.repeats is not None for each in plan) / 50
    assert 1.4 < kinds["bad"] < 2.6
    assert 2.4 < kinds["cancel"] < 3.6
    assert 4.0 < repeated < 6.0
    assert {each.door for each in plan} == {"celery", "sql"}
    assert len({line["sku"] for each in plan if each.kind == "place" for line in each.body["lines"]}) == len(SKUS)
    assert len(BADS) == 7


def test_a_journal_that_was_cut_off_in_the_middle_of_a_line_has_all_lines_before_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "a.jsonl")
    journal.note("intent", key="k")
    journal.note("sent", key="k")
    journal.close()
    with journal.path.open("ab") as file:
        file.write(b'{"t": 1, "e": "answ')

    assert [note["e"] for note in read(journal.path)] == ["intent", "sent"]
    again = Journal(journal.path)  # a new process goes on in it
    again.note("answer", key="k")
    again.close()
    assert [note["e"] for note in read(journal.path)] == ["intent", "sent", "answer"]
