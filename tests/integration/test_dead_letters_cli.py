"""`ordermill dead-letters` as an operator has it, where no worker runs: what is shown, asked, refused and settled."""

import json
import uuid
from typing import Any

import pytest

from tests.letters import (
    ENCODED,
    NOBODY,
    answer,
    listed,
    message_letter,
    newest,
    run,
    set_aside,
    settled,
    unread_letter,
)
from tests.shop import fingerprint
from tests.workers_fixtures import Mill


def ids(found: list[dict[str, Any]]) -> list[uuid.UUID]:
    return [uuid.UUID(letter["id"]) for letter in found]


# List


def test_open_letters_are_listed_newest_first_with_what_they_were_for(clean: Mill, three: dict[str, uuid.UUID]) -> None:
    done = run(clean, "list")

    assert (done.returncode, done.stderr) == (0, "")
    _, unread, message, dead, total = done.stdout.splitlines()
    assert unread.split()[0] == str(three["unread"])
    assert [word in unread for word in ("OM092", "shop.guess", "t-1", "It is no message.")] == [True] * 4
    assert [word in message for word in (str(three["message"]), "OM091", "inventory.adjust", "t-9")] == [True] * 4
    assert [word in dead for word in ("OM090", "orders.place", "web-1", "poison", " s ")] == [True] * 5
    assert total == "3 open dead letters"


def test_on_a_narrow_terminal_ids_stay_whole(clean: Mill, three: dict[str, uuid.UUID]) -> None:
    lines = run(clean, "list", COLUMNS="70").stdout.splitlines()

    assert [line.split()[0] for line in lines[1:4]] == [str(three[kind]) for kind in ("unread", "message", "order")]
    assert all(len(line) <= 70 for line in lines)


def test_where_there_is_none_it_says_so(clean: Mill) -> None:
    assert run(clean, "list").stdout == "no open dead letter\n"


FILTERS: dict[str, tuple[tuple[str, ...], list[str]]] = {
    "code": (("--code", "OM091"), ["message"]),
    "task": (("--task", "shop.guess"), ["unread"]),
    "the task of an order": (("--task", "orders.place"), ["order"]),
    "queue": (("--queue", "inventory"), ["message"]),
    "source": (("--source", "celery"), ["unread", "message", "order"]),
    "another source": (("--source", "sql"), []),
    "key": (("--key", "web-1"), ["order"]),
    "since": (("--since", "1h"), ["unread", "message", "order"]),
    "since a time": (("--since", "2099-01-01T00:00Z"), []),
    "two at once": (("--source", "celery", "--code", "OM090"), ["order"]),
    "quotes": (("--key", "'; SELECT 1 --"), []),
}


@pytest.mark.parametrize("name", FILTERS)
def test_options_choose_among_letters(clean: Mill, three: dict[str, uuid.UUID], name: str) -> None:
    options, expected = FILTERS[name]

    assert ids(listed(clean, *options)) == [three[kind] for kind in expected]


def test_since_an_age_leaves_out_what_is_older(clean: Mill, three: dict[str, uuid.UUID]) -> None:
    clean.db.execute(
        "UPDATE shop.dead_letters SET created_at = now() - interval '3 hours' WHERE id = %s", [three["message"]]
    )

    assert three["message"] not in ids(listed(clean, "--since", "2h"))
    assert three["message"] in ids(listed(clean, "--since", "4h"))
    assert " 3 h " in next(line for line in run(clean, "list").stdout.splitlines() if "inventory.adjust" in line)


def test_json_has_all_that_is_known(clean: Mill, three: dict[str, uuid.UUID]) -> None:
    [letter] = listed(clean, "--code", "OM091")

    assert letter["payload"] == {"task": "inventory.adjust", "message": {"args": [{"sku": "A"}], "kwargs": {}}}
    assert (letter["kind"], letter["queue"], letter["key"]) == ("message", "inventory", "t-9")
    assert (letter["attempts"], letter["settled_at"], letter["settlement"]) == (1, None, None)


@pytest.mark.usefixtures("three")
def test_a_limit_says_how_many_there_are(clean: Mill) -> None:
    assert run(clean, "list", "--limit", 2).stdout.splitlines()[-1] == "the newest 2 of 3 open dead letters"


def test_settled_letters_are_listed_when_asked_for(clean: Mill, three: dict[str, uuid.UUID]) -> None:
    run(clean, "discard", three["message"], "--yes")

    assert three["message"] not in ids(listed(clean))
    [line] = [line for line in run(clean, "list", "--all").stdout.splitlines() if str(three["message"]) in line]
    assert "discarded" in line


def test_what_workers_set_aside_is_collected_first(clean: Mill) -> None:
    set_aside(clean, "orders", "not json")

    assert [letter["payload"] for letter in listed(clean)] == [{"queue": "orders", "item": "not json"}]
    assert not clean.broker.exists("orders.undecodable")


@pytest.mark.usefixtures("three")
def test_without_redis_it_lists_what_postgresql_has_and_says_so_in_one_line(clean: Mill) -> None:
    done = run(clean, "list", CELERY_BROKER_URL=NOBODY)

    assert done.returncode == 0
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("not collected, what workers set aside in Redis lately: Redis: ")
    assert done.stdout.splitlines()[-1] == "3 open dead letters"


@pytest.mark.usefixtures("three")
def test_where_no_redis_is_known_it_lists_what_postgresql_has(clean: Mill) -> None:
    done = run(clean, "list", without={"REDIS_URL", "CELERY_BROKER_URL"})

    assert done.returncode == 0
    assert "no Redis to use: none is running: set REDIS_URL" in done.stderr
    assert done.stdout.splitlines()[-1] == "3 open dead letters"


@pytest.mark.usefixtures("three")
def test_a_reader_may_list_but_neither_collect_nor_settle(clean: Mill) -> None:
    set_aside(clean, "orders", "not json")
    separator = "&" if "?" in clean.database_url else "?"
    reader = f"{clean.database_url}{separator}options=-crole%3Dordermill_reader"

    seen = run(clean, "list", DATABASE_URL=reader)
    refused = run(clean, "discard", "--code", "OM091", "--yes", DATABASE_URL=reader)

    assert seen.stdout.splitlines()[-1:] == ["3 open dead letters"], seen.stderr
    assert "permission denied" in seen.stderr
    assert clean.broker.llen("orders.undecodable") == 1
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].startswith("ordermill: permission denied for function settle_letter")


# Show


def test_a_letter_is_shown_whole_with_its_message_decoded(clean: Mill, three: dict[str, uuid.UUID]) -> None:
    said = run(clean, "show", three["unread"]).stdout

    head, _, rest = said.partition("\npayload\n")
    payload, _, message = rest.partition("\nCelery message, its body decoded\n")
    assert "what      unread item from queue views, task shop.guess" in head
    assert "state     open" in head
    assert "replay    goes back to its queue as it was" in head
    assert json.loads(payload) == {"queue": "views", "item": json.dumps(ENCODED)}
    assert json.loads(message) == ENCODED | {"body": [[{"sku": "A"}], {}, {}]}
    assert '\n  "headers": {\n' in message


def test_an_orders_letter_is_shown_with_its_typed_request(clean: Mill, three: dict[str, uuid.UUID]) -> None:
    said = run(clean, "show", three["order"]).stdout

    assert "what      order from queue orders, task orders.place" in said
    assert json.loads(said.partition("\npayload\n")[2])["skus"] == ["A"]


@pytest.mark.parametrize("item", ["not json", "[]", '{"body": "%%%", "properties": 5}', "[" * 50_000, "{}"])
def test_an_item_that_is_no_message_is_shown_as_it_is(clean: Mill, item: str) -> None:
    done = run(clean, "show", unread_letter(clean.shop, "views", item))

    assert (done.returncode, done.stderr) == (0, "")
    payload = done.stdout.partition("\npayload\n")[2].partition("\nCelery message")[0]
    assert json.loads(payload)["item"] == item


def test_what_a_letter_holds_cannot_steer_the_terminal(clean: Mill) -> None:
    evil = "\x1b]0;owned\x07 \x9b31m [red]red[/] \u202eback"
    message_letter(clean.shop, "inventory.adjust", evil, evil)
    clean.db.execute("UPDATE shop.dead_letters SET reason = %s", [f"{evil}\nsecond line"])

    for done in (run(clean, "list"), run(clean, "show", newest(clean.shop)), run(clean, "discard", newest(clean.shop))):
        assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(done.stdout + done.stderr)
        assert r"\x1b]0;owned\x07 \x9b31m [red]" in done.stdout


# Replay and discard: what is asked and refused


def test_replay_shows_what_it_will_do_and_asks_first(clean: Mill, three: dict[str, uuid.UUID]) -> None:
    before = fingerprint(clean.db)

    code, seen = answer(clean, "n", "replay", "--source", "celery")

    assert code == 1
    assert "1 unread item: it goes back to its queue as it was" in seen
    assert "1 message: it is sent to its queue again, under its task id" in seen
    assert "1 order: it goes into the queue behind the SQL door, to be decided anew under its key" in seen
    assert "Replay 3 dead letters? [y/N]" in seen
    assert "Aborted" in seen
    assert fingerprint(clean.db) == before
    assert not clean.broker.keys("*")


def test_who_says_yes_gets_it_done(clean: Mill, three: dict[str, uuid.UUID]) -> None:
    code, seen = answer(clean, "y", "discard", three["message"], three["unread"])

    assert code == 0
    assert "Discard 2 dead letters? [y/N]" in seen
    assert [settled(clean.shop, three[kind]) for kind in ("message", "unread", "order")] == [
        "discarded", "discarded", None]  # fmt: skip


@pytest.mark.parametrize("verb", ["replay", "discard"])
def test_without_a_terminal_nothing_is_done_unless_told_yes(
    clean: Mill, three: dict[str, uuid.UUID], verb: str
) -> None:
    before = fingerprint(clean.db)

    done = run(clean, verb, three["order"])

    assert done.returncode == 2
    assert done.stderr == (
        f"ordermill: nothing is done: there is no terminal to ask on; add --yes to {verb} without asking\n"
    )
    assert fingerprint(clean.db) == before


UNKNOWN = uuid.UUID(int=7)
MISTAKES: dict[str, tuple[tuple[object, ...], str]] = {
    "nothing named": (("replay", "--yes"), "say which: `ordermill dead-letters replay ID ...`, or options such as"),
    "only a limit": (("discard", "--limit", 1, "--yes"), "say which: "),
    "ids and options": (("replay", UNKNOWN, "--code", "OM091", "--yes"), "say which: "),
    "an unknown id": (("replay", UNKNOWN, "--yes"), f"there is no dead letter {UNKNOWN}: "),
    "show an unknown id": (("show", UNKNOWN), f"there is no dead letter {UNKNOWN}: "),
    "no id": (("show", "web-1"), "'web-1' is no id: "),
    "no time": (("list", "--since", "yesterday"), "--since yesterday is no time: give 30m, 2h, 7d, or one such as "),
    "an age beyond time": (("list", "--since", "99999999999d"), "--since 99999999999d is no time: "),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line(clean: Mill, three: dict[str, uuid.UUID], name: str) -> None:
    arguments, line = MISTAKES[name]
    before = fingerprint(clean.db)

    done = run(clean, *arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"ordermill: {line}")
    assert done.stderr.count("\n") == 1
    assert fingerprint(clean.db) == before


def test_without_postgresql_it_is_one_line(clean: Mill) -> None:
    done = run(clean, "list", DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")

    assert done.returncode == 2
    assert done.stderr.startswith("ordermill: PostgreSQL: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [(), ("list",), ("show",), ("replay",), ("discard",)])
def test_each_command_has_help(clean: Mill, command: tuple[str, ...]) -> None:
    done = run(clean, *command, "--help")

    assert done.returncode == 0
    assert "Usage: " in done.stdout
