"""Delivering to real receivers: in order, again after failures, dead after the last; none waits behind the slow."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from tests.hooks import LOCAL, Got, Receiver, add, dispatch, receiver, waiting
from tests.noted import happen
from tests.shop import Shop, order
from tests.waiting import at_once
from workers.child import wait_until
from workers.settings import Settings, get_settings
from workers.webhooks import deliver

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
def impatient(runtime: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deliverer in this process, which tries again soon, and may go to this machine."""
    for name, value in (("ALLOW", LOCAL), ("BACKOFF_SECONDS", "0.05"), ("BACKOFF_MAX_SECONDS", "2")):
        monkeypatch.setenv(f"ORDERMILL_WEBHOOKS_{name}", value)
    get_settings.cache_clear()


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


def until(shop: Shop, condition: Callable[[], bool], seconds: float = 30, **more: Any) -> None:
    """Delivers, one turn after the other, until the condition holds."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, shop.maps("SELECT * FROM api.webhook_endpoints")
        deliver(get_settings().model_copy(update=more), 0.2)


def test_an_order_is_told_signed_and_under_the_id_of_its_event(shop: Shop, there: Receiver) -> None:
    secret = add(shop, "a", there.url, ["order.*"])
    shop.stock("A", "E1", 5)
    [placed] = shop.place(order("k-1", ("A", 1)))
    dispatch(shop)
    until(shop, lambda: waiting(shop) == 0)

    [got] = there.got
    told = Webhook(secret).verify(got.body, got.headers)
    event = shop.maps("SELECT id, payload FROM api.events WHERE kind = 'order.placed'")[0]
    assert (told["type"], told["stream"]) == ("order.placed", f"order:{placed['order_id']}")
    assert told["data"] == event["payload"]
    assert told["data"]["key"] == "k-1"
    assert got.headers["webhook-id"] == str(event["id"])
    found = shop.maps("SELECT state, attempts, status FROM api.webhook_deliveries WHERE stream = %s", told["stream"])
    assert found == [{"state": "delivered", "attempts": 1, "status": 200}]


def test_both_secrets_sign_while_one_is_rotated(shop: Shop, there: Receiver) -> None:
    old = add(shop, "a", there.url)
    new = shop.value("SELECT api.rotate_webhook_secret('a', '1 hour')")
    happen(shop, "test.a")
    dispatch(shop)
    until(shop, lambda: waiting(shop) == 0)
    shop.value("SELECT api.rotate_webhook_secret('a', '0')")
    happen(shop, "test.b")
    dispatch(shop)
    until(shop, lambda: waiting(shop) == 0)

    first, second = there.got
    for secret in (old, new):
        assert Webhook(secret).verify(first.body, first.headers)["type"] == "test.a"
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(second.body, second.headers)


def test_two_deliverers_and_a_receiver_that_fails_at_times_keep_each_stream_in_order(
    shop: Shop, there: Receiver
) -> None:
    asked: dict[str, int] = {}

    def answer(got: Got) -> tuple[int, dict[str, str]]:
        asked[got.headers["webhook-id"]] = asked.get(got.headers["webhook-id"], 0) + 1
        fails = got.told["position"] % 7 == 0 and asked[got.headers["webhook-id"]] < 3
        return (500, {}) if fails else (204, {})

    there.answer = answer
    add(shop, "a", there.url)
    both: list[Any] = [None]
    rounds = 0
    while None in both and rounds < 20:  # until one was really beside the other
        rounds += 1
        for number in range(60):
            happen(shop, "test.a", stream=f"test:{number % 6}")
        dispatch(shop)
        with pytest.MonkeyPatch.context() as patch:
            # A second beside the first, as where the first is too slow.
            patch.setattr("workers.webhooks.LATE_SECONDS", 0)
            both = at_once(2, lambda _number: deliver(get_settings(), 0.3))
        # Nothing is left for the next round: where all that is due fails, the whole endpoint rests for seconds.
        until(shop, lambda: waiting(shop) == 0)
    assert None not in both, "there was but one deliverer"

    for stream, positions in there.by_stream().items():
        once = list(dict.fromkeys(positions))
        assert once == sorted(once), stream
    delivered = shop.rows("SELECT position FROM api.webhook_deliveries WHERE state = 'delivered' ORDER BY position")
    assert delivered == list(range(1, 60 * rounds + 1))
    assert shop.count("dead_letters") == 0


def test_an_event_waits_for_the_one_before_it_in_its_stream_and_for_no_other(shop: Shop, there: Receiver) -> None:
    there.answer = lambda got: (500, {}) if got.told["type"] == "test.bad" else (200, {})
    add(shop, "a", there.url)
    happen(shop, "test.bad", "test.after", stream="test:1")
    happen(shop, "test.other", stream="test:2")
    dispatch(shop)

    until(shop, lambda: waiting(shop) == 0, webhooks_attempts=4)

    kinds = [got.told["type"] for got in there.got]
    assert kinds.count("test.bad") == 4
    assert kinds.index("test.other") < kinds.index("test.after")
    assert kinds[-1] == "test.after"
    [letter] = shop.maps("SELECT id, code, attempts FROM api.dead_letters")
    assert (letter["code"], letter["attempts"]) == ("OM043", 4)

    there.answer = lambda _got: (200, {})
    assert shop.value("SELECT api.replay_delivery(%s)", letter["id"])
    until(shop, lambda: waiting(shop) == 0)
    assert there.got[-1].told["type"] == "test.bad"
    assert len({got.headers["webhook-id"] for got in there.got if got.told["type"] == "test.bad"}) == 1


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_receiver_that_asks_for_time_is_given_it(shop: Shop, there: Receiver, form: str) -> None:
    at: list[float] = []

    def answer(_got: Got) -> tuple[int, dict[str, str]]:
        at.append(time.monotonic())
        if len(at) > 1:
            return 200, {}
        later = format_datetime(datetime.fromtimestamp(time.time() + 2, UTC), usegmt=True)
        return 429, {"retry-after": "1" if form == "seconds" else later}

    there.answer = answer
    add(shop, "a", there.url)
    happen(shop, "test.a", stream="test:1")
    dispatch(shop)
    until(shop, lambda: waiting(shop) == 0)

    assert at[1] - at[0] >= 1.0
    assert [got.headers["webhook-id"] for got in there.got] == [there.got[0].headers["webhook-id"]] * 2


def test_an_endpoint_that_hangs_keeps_no_other_waiting(shop: Shop, there: Receiver) -> None:
    with receiver() as hanging:
        hanging.gate = threading.Event()
        add(shop, "slow", hanging.url, timeout_ms=30_000)
        add(shop, "quick", there.url)
        for number in range(100):
            happen(shop, "test.a", stream=f"test:{number}")
        dispatch(shop)
        run = threading.Thread(target=deliver, args=(get_settings(), 10.0))
        run.start()
        try:
            assert wait_until(lambda: len(there.got) == 100, 25), len(there.got)
            assert len(hanging.got) <= get_settings().webhooks_per_endpoint
        finally:
            hanging.gate.set()
            run.join()
        until(shop, lambda: waiting(shop) == 0)
        assert {got.told["position"] for got in hanging.got} == set(range(1, 101))


def test_a_gone_endpoint_is_asked_once_and_stopped(shop: Shop, there: Receiver) -> None:
    there.answer = lambda _got: (410, {})
    add(shop, "a", there.url)
    for number in range(5):
        happen(shop, "test.a", stream=f"test:{number}")
    dispatch(shop)
    until(shop, lambda: bool(shop.value("SELECT disabled_at FROM api.webhook_endpoints")), webhooks_per_endpoint=1)
    deliver(get_settings(), 0.2)

    assert (len(there.got), waiting(shop)) == (1, 5)


def test_an_address_that_is_not_allowed_is_never_connected_to_and_says_why(shop: Shop, there: Receiver) -> None:
    add(shop, "a", there.url)
    happen(shop, "test.a")
    dispatch(shop)
    error = "SELECT last_error FROM api.webhook_endpoints"
    until(shop, lambda: shop.value(error) is not None, webhooks_allow="")

    assert there.connections == 0
    assert "not on the public internet" in shop.value(error)
    assert waiting(shop) == 1


def test_a_replay_from_a_position_is_told_in_order_under_the_same_ids(shop: Shop, there: Receiver) -> None:
    add(shop, "a", there.url)
    happen(shop, "test.a", "test.b", "test.c")
    dispatch(shop)
    until(shop, lambda: waiting(shop) == 0)
    ids = [got.headers["webhook-id"] for got in there.got]

    shop.value("SELECT api.replay_webhook('a', 2)")
    until(shop, lambda: len(there.got) == 5 and waiting(shop) == 0)

    assert there.positions() == [1, 2, 3, 2, 3]
    assert [got.headers["webhook-id"] for got in there.got[3:]] == ids[1:]


def test_settings_of_webhooks_name_what_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORDERMILL_WEBHOOKS_ALLOW", "10.0.0.0/8, fd00::/8")
    assert [str(network) for network in Settings().webhooks_networks] == ["10.0.0.0/8", "fd00::/8"]
    monkeypatch.setenv("ORDERMILL_WEBHOOKS_ALLOW", "10.0.0.1/8")
    with pytest.raises(ValueError, match="give networks such as"):
        Settings()
