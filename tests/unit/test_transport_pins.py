"""What the transport overrides in kombu, and the consumer in Celery, is still what it was written against.

Both are private. A new version of kombu or Celery that changes one of them must fail here, not in a shop: read what
changed, bring what leans on it in `workers` along, and then the digest.
"""

import hashlib
import inspect
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pytest
from celery.app.trace import build_tracer
from celery.backends.base import Backend, KeyValueStoreBackend
from celery.backends.redis import RedisBackend
from celery.concurrency.base import BasePool
from celery.worker import control
from celery.worker.consumer import Consumer
from celery.worker.consumer.tasks import Tasks
from celery.worker.request import Request
from celery.worker.strategy import default
from celery.worker.worker import WorkController
from kombu.asynchronous.hub import Hub
from kombu.transport import redis, virtual

from workers.consumer import Consumer as OurConsumer

PINNED: dict[str, tuple[Callable[..., Any], str]] = {
    "Consumer._flush_events": (Consumer._flush_events, "2f39dd241651"),
    "Consumer.on_send_event_buffered": (Consumer.on_send_event_buffered, "0429cadc8bf9"),
    "Hub.create_loop": (Hub.create_loop, "bc5b3f9d66b9"),
    "redis.Channel._brpop_start": (redis.Channel._brpop_start, "06723d707ddf"),
    "redis.Channel._brpop_read": (redis.Channel._brpop_read, "c42518699709"),
    "redis.Channel._flush_brpop_reauth": (redis.Channel._flush_brpop_reauth, "bb4930b4fd3c"),
    "redis.Channel._q_for_pri": (redis.Channel._q_for_pri, "f3997660680d"),
    "redis.Channel._deliver_fanout_message": (redis.Channel._deliver_fanout_message, "06662335a70a"),
    "redis.Channel.close": (redis.Channel.close, "101e9b9cdad4"),
    "redis.Channel.basic_cancel": (redis.Channel.basic_cancel, "d2e3a03a48d2"),
    "redis.MultiChannelPoller.on_poll_start": (redis.MultiChannelPoller.on_poll_start, "414f76caaa67"),
    "redis.MultiChannelPoller.on_readable": (redis.MultiChannelPoller.on_readable, "c0d99f241607"),
    "redis.MultiChannelPoller._register_BRPOP": (redis.MultiChannelPoller._register_BRPOP, "85724582464a"),
    "redis.MultiChannelPoller.maybe_restore_messages": (
        redis.MultiChannelPoller.maybe_restore_messages,
        "6c267815d521",
    ),
    "redis.MultiChannelPoller.maybe_check_brpop_health": (
        redis.MultiChannelPoller.maybe_check_brpop_health,
        "0dc592e46353",
    ),
    "redis.MultiChannelPoller._update_brpop_polling": (redis.MultiChannelPoller._update_brpop_polling, "de7b4600acf5"),
    "redis.QoS.append": (redis.QoS.append, "35c655f6ecc6"),
    "redis.QoS.ack": (redis.QoS.ack, "1bc15a4ddf54"),
    "redis.QoS.reject": (redis.QoS.reject, "747a02434344"),
    "redis.QoS.restore_visible": (redis.QoS.restore_visible, "d4a4a40a3eaf"),
    "redis.QoS.restore_unacked": (redis.QoS.restore_unacked, "8954efef014d"),
    "redis.QoS.restore_by_tag": (redis.QoS.restore_by_tag, "58e161d81b6f"),
    "virtual.QoS.append": (virtual.QoS.append, "b388f0cd6485"),
    "virtual.QoS.ack": (virtual.QoS.ack, "0714292b916f"),
    "virtual.QoS.can_consume": (virtual.QoS.can_consume, "787f80092f8d"),
    "virtual.QoS.can_consume_max_estimate": (virtual.QoS.can_consume_max_estimate, "936d3958266c"),
    "virtual.QoS.restore_unacked_once": (virtual.QoS.restore_unacked_once, "c81f3d0fb29b"),
    "virtual.Message.__init__": (virtual.Message.__init__, "c90d08ccfa2e"),
    "virtual.Channel.basic_consume": (virtual.Channel.basic_consume, "0fec96269493"),
    "virtual.Channel.basic_cancel": (virtual.Channel.basic_cancel, "1beb5cf96c9a"),
    "virtual.Transport._deliver": (virtual.Transport._deliver, "799e242f3ec5"),
    "Consumer.create_task_handler": (Consumer.create_task_handler, "292c5a681f10"),
    "Consumer.on_unknown_message": (Consumer.on_unknown_message, "213bd3ee55cb"),
    "Consumer.on_unknown_task": (Consumer.on_unknown_task, "35e6cbe56494"),
    "Consumer.on_invalid_task": (Consumer.on_invalid_task, "9893e7a4eee3"),
    "Consumer.on_decode_error": (Consumer.on_decode_error, "e3538c586a7f"),
    "control.add_consumer": (control.add_consumer, "2c405aec2d52"),
    "BasePool.terminate_job": (BasePool.terminate_job, "86cf042a4a30"),
    "WorkController._process_task": (WorkController._process_task, "4ffb514847bd"),
    "Tasks.start": (Tasks.start, "e0165bf1d620"),
    "default": (default, "7d90575ada5e"),
    "Request.__init__": (Request.__init__, "efdf47149cde"),
    "Request.acknowledge": (Request.acknowledge, "60dad9ce9c39"),
    "Request.reject": (Request.reject, "08be2378bcc6"),
    "Request.on_accepted": (Request.on_accepted, "7bd097a863da"),
    "Request.revoked": (Request.revoked, "5132788b1bc8"),
    "Backend._get_result_meta": (Backend._get_result_meta, "11e289492793"),
    "KeyValueStoreBackend._store_result": (KeyValueStoreBackend._store_result, "c0214af4c66e"),
    "RedisBackend._set": (RedisBackend._set, "93cac55f65fd"),
    "build_tracer": (build_tracer, "b2945aec38e1"),
}


def digest(function: Callable[..., Any]) -> str:
    return hashlib.sha256(inspect.getsource(function).encode()).hexdigest()[:12]


def test_kombu_and_celery_are_the_versions_that_the_transport_was_written_against() -> None:
    assert version("kombu").startswith("5.7.")
    assert version("celery").startswith("5.7.")


@pytest.mark.parametrize("name", PINNED)
def test_what_is_overridden_or_leant_on_is_what_it_was(name: str) -> None:
    function, expected = PINNED[name]
    assert digest(function) == expected, f"{name} changed: see this module's docstring"


def test_no_events_are_sent_before_a_batch_that_waits() -> None:
    # In which order a turn of kombu's loop does what was asked of it is chance: real workers would show it sometimes.
    sent = []

    class Dispatcher:
        def flush(self) -> None:
            sent.append("events")

    consumer = object.__new__(OurConsumer)
    consumer.event_dispatcher = Dispatcher()

    consumer.batch_waits = True
    consumer._flush_events()
    assert sent == []

    consumer.batch_waits = False
    consumer._flush_events()
    assert sent == ["events"]


def test_events_of_batches_that_follow_one_another_closely_are_sent_together_and_none_is_kept() -> None:
    sent, timed = [], []

    class Dispatcher:
        def flush(self) -> None:
            sent.append("events")

    class Timer:
        def call_after(self, seconds: float, function: Callable[[], None]) -> None:
            timed.append((seconds, function))

    consumer = object.__new__(OurConsumer)
    consumer.event_dispatcher, consumer.timer, consumer.events_pause = Dispatcher(), Timer(), 60.0

    for _ in range(3):
        consumer._flush_events()
    assert (sent, len(timed)) == (["events"], 1)
    assert 0 < timed[0][0] <= 60

    timed[0][1]()
    assert sent == ["events", "events"]
    consumer._flush_events()
    assert (len(sent), len(timed)) == (2, 2)
