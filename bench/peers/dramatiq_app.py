"""Dramatiq as a peer, on its Redis broker, one message an order.

    dramatiq bench.peers.dramatiq_app --processes 2 --threads 4

Its documents have no bulk way: a *group* ("Composition" in its Cookbook) enqueues message by message, and an actor is
called once a message. What they do have is used: processes and threads, and the environment's `dramatiq_queue_prefetch`
(messages fetched at once) and `dramatiq_worker_timeout` (how long an idle consumer sleeps at most). A message is
acknowledged after its actor returned. The middleware is Dramatiq's own default list, which has no Prometheus; there is
no result backend.
"""

from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import Middleware, default_middleware

from bench.peers.order import place as place_order
from bench.peers.order import say_ready
from workers.settings import get_settings


class Ready(Middleware):
    """Says when a worker process is at work."""

    def after_worker_boot(self, broker: Any, worker: Any) -> None:
        """Called once a process."""
        say_ready()


broker = RedisBroker(url=get_settings().redis_url, middleware=[each() for each in default_middleware])
broker.add_middleware(Ready())
dramatiq.set_broker(broker)


@dramatiq.actor(actor_name="place", queue_name="orders")
def place(order: dict[str, Any]) -> None:
    """Places one order."""
    place_order(order)
