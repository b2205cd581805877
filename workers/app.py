"""The Celery application: `celery -A workers.app worker|beat|flower`.

What Celery is told, and why, is here; what a task does is in `tasks`, when it runs in `beat_schedule`.
"""

import logging
import os
import ssl
import sys
from typing import Any

from celery import Celery
from celery.signals import (
    after_task_publish,
    beat_init,
    celeryd_init,
    worker_init,
    worker_process_init,
    worker_process_shutdown,
    worker_shutdown,
)
from kombu.entity import Exchange, Queue
from kombu.transport import TRANSPORT_ALIASES
from kombu.utils.url import parse_url
from pydantic import ValidationError

import workers.solo  # noqa: F401  # -P solo is ours
from beat_schedule import BEAT_SCHEDULE
from workers import alive, metrics
from workers.database import forget
from workers.errors import SetupError
from workers.extras import to_install
from workers.flower import prepare_flower
from workers.misspelt import meant
from workers.queue_names import ALL_QUEUES, FOREIGN_QUEUE
from workers.settings import Settings, get_settings, unusable
from workers.traces import begin_tracing, end_tracing, installed

# Celery reads these itself, each time, before anything it is told. CELERY_BROKER_URL is a setting of ours too.
CELERYS_OWN = ("CELERY_RESULT_BACKEND", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL")
# What a worker's banner and statistics show; on a connection the scheme of its URL gives way to it.
TRANSPORT_ALIASES.update(
    {
        "redis-guarded": "workers.undecodable:Transport",
        "sentinel-guarded": "workers.undecodable:SentinelTransport",
        "redis-batch": "workers.transport:Transport",
        "sentinel-batch": "workers.transport:SentinelTransport",
    }
)
log = logging.getLogger(__name__)  # not Celery's, which is silent until a worker has set it up


def configure(application: Celery, settings: Settings) -> None:
    """Tells the application everything; the settings' addresses win over Celery's own environment variables."""
    for name in CELERYS_OWN:
        if os.environ.pop(name, None):
            log.warning("%s is ignored: set REDIS_URL for results, CELERY_BROKER_URL for the broker", name)
    application.conf.update(
        broker_url=settings.broker_url,
        broker_use_ssl=tls_of(settings.broker_url),
        result_backend=settings.redis_url,
        redis_backend_use_ssl=tls_of(settings.redis_url),
        result_expires=3600,
        # JSON only: a pickle from a queue that others can write to is a program.
        accept_content=["json"],
        task_serializer="json",
        result_serializer="json",
        enable_utc=True,
        timezone="UTC",
        task_default_queue=FOREIGN_QUEUE,
        # Each has an exchange of its own: bound to Celery's default one, a message sent to that would reach all queues.
        task_queues=[Queue(name, Exchange(name), routing_key=name) for name in ALL_QUEUES],
        task_routes={
            "orders.drain": {"queue": "maintenance"},
            "orders.sweep": {"queue": "maintenance"},
            "orders.*": {"queue": "orders"},
            "inventory.*": {"queue": "inventory"},
            "maintenance.*": {"queue": "maintenance"},
            "upkeep.*": {"queue": "maintenance"},
            "events.*": {"queue": "events"},
            "webhooks.*": {"queue": "events"},
            "alerts.*": {"queue": "alerts"},
            "catalog.*": {"queue": "cache"},
            "cache.*": {"queue": "cache"},
            "views.*": {"queue": "views"},
        },
        # What Flower shows.
        worker_send_task_events=True,
        task_send_sent_event=True,
        task_track_started=False,
        # Only tasks that somebody waits for store a result; they say so themselves.
        task_ignore_result=True,
        task_time_limit=900,
        task_soft_time_limit=870,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,  # what one process prefetched behind a long task would wait for it
        worker_consumer="workers.consumer:Consumer",
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_channel_error_retry=True,
        broker_pool_acquire_timeout=10,  # else a publish can block for ever
        broker_transport_options=broker_options(settings),
        redis_socket_timeout=15,
        redis_socket_connect_timeout=5,
        result_backend_transport_options={"retry_policy": {"timeout": 15.0}} | behind_sentinel(settings),
        beat_schedule=BEAT_SCHEDULE,
        beat_scheduler="workers.scheduler:Scheduler",
        beat_max_loop_interval=1,
    )


def broker_options(settings: Settings) -> dict[str, Any]:
    """What the transport is told.

    Commands acknowledge late; the visibility timeout of a general worker must exceed how long one waits behind a job.
    Being delivered twice is harmless: each has its key.
    """
    return {
        "visibility_timeout": 120,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 5,
        "socket_timeout": 15,  # kombu passes None: a dead peer would hang the worker
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
    } | behind_sentinel(settings)


def behind_sentinel(settings: Settings) -> dict[str, str]:
    """How the master is found, where there is one."""
    return {"master_name": settings.sentinel_master} if settings.sentinel_master else {}


def tls_of(url: str) -> dict[str, Any] | None:
    """What a `rediss://` address says of TLS; where it says nothing the server's certificate is checked.

    Told apart from the address, because kombu's own default checks no certificate (and, with a transport by name, does
    not even encrypt), Celery's backend refuses an address that does not say, and Flower reads no parameters of one.
    """
    if not url.startswith("rediss://"):
        return None
    return {"ssl_cert_reqs": ssl.CERT_REQUIRED, **parse_url(url).get("ssl", {})}


AREAS = ("orders", "inventory", "events", "alerts", "cache", "views", "webhooks", "maintenance", "upkeep")
app = Celery("ordermill", include=[f"tasks.{area}" for area in AREAS])
try:
    configure(app, get_settings())
    prepare_flower(get_settings())
except ValidationError as error:
    raise SystemExit(f"ordermill: {unusable(error)}") from None
except SetupError as error:
    sys.exit(str(error))  # one line, and not Celery's traceback


@celeryd_init.connect(weak=False)
def _choose_transport(conf: Any = None, options: Any = None, **_: Any) -> None:
    """A worker of `orders` alone takes many messages at once, and redelivers within seconds, from a set of its own.

    The set is otherwise shared by all workers, and one with a short visibility timeout would run the others' long
    tasks a second time.
    """
    if get_settings().traces and not installed():
        sys.exit(
            "ordermill: ORDERMILL_TRACES needs the extra `traces`; unset it, or install the wheel with it: "
            + to_install("traces")
        )
    excluded = named(options, "exclude_queues")
    names = named(options, "queues") - excluded
    settings, kind = get_settings(), "guarded"
    if "orders" in names and len(names) > 1 and settings.orders_transport == "batch":
        sys.exit(
            "ordermill: a worker of orders serves no second queue: start one with -Q orders -P solo and another for "
            "the rest, or set ORDERMILL_ORDERS_TRANSPORT=stock"
        )
    for name in sorted(names.difference(ALL_QUEUES)):
        if near := meant(name, ALL_QUEUES):
            log.warning("%s is no queue of Ordermill: nothing is sent to it; is %s meant?", name, near)
    if not names and "orders" not in excluded:
        log.warning("this worker serves all queues, orders one by one; start one with -Q orders -P solo beside it")
    if names == {"orders"}:
        conf.broker_transport_options = conf.broker_transport_options | {
            "unacked_key": "orders.unacked",
            "unacked_index_key": "orders.unacked_index",
            "unacked_mutex_key": "orders.unacked_mutex",
            "visibility_timeout": settings.visibility_timeout,
            "unacked_restore_throttle": 1,
        }
        conf.worker_disable_prefetch = False
        solo = "solo" in str((options or {}).get("pool", ""))
        if settings.orders_transport == "batch" and not solo:
            log.warning("this worker takes messages one by one; start it with -P solo, and as many as you need")
        elif settings.orders_transport == "batch":
            kind = "batch"
            # It would be given back as Celery's own way acknowledges, which a batch does not.
            conf.worker_enable_prefetch_count_reduction = False
            if refusal := unfit(conf):
                sys.exit(f"ordermill: {refusal}")
    scheme = "sentinel" if str(conf.broker_url).startswith("sentinel") else "redis"
    conf.broker_transport = f"{scheme}-{kind}"
    # Of a URL with a + kombu takes the transport's name before it, whatever it is told.
    if str(conf.broker_url).startswith("redis+"):
        conf.broker_read_url = conf.broker_write_url = f"redis-{kind}+{conf.broker_url.removeprefix('redis+')}"


def named(options: Any, option: str) -> set[str]:
    """The queues that an option of the command line names."""
    queues = (options or {}).get(option) or []
    return {name.strip() for name in (queues.split(",") if isinstance(queues, str) else queues)} - {""}


@celeryd_init.connect(weak=False)
def _count(**_: Any) -> None:
    """A worker counts what it does, where it is told a folder for that; no other process does."""
    try:
        metrics.begin(get_settings().metrics_dir)
    except OSError as error:
        sys.exit(f"ordermill: ORDERMILL_METRICS_DIR cannot be used: {error}")


@beat_init.connect(weak=False)
def _beat_is_alive(**_: Any) -> None:
    """Beat sends something at least each five seconds, which says that it is well; a worker says so itself."""
    after_task_publish.connect(alive.touch, weak=False)


@worker_init.connect(weak=False)
def _take_many(sender: Any = None, **_: Any) -> None:
    """Gives a worker that takes many at once room for them; `--prefetch-multiplier` has been read before any signal."""
    if str(sender.app.conf.broker_transport).endswith("-batch"):
        sender.concurrency = 1  # Celery counts the processors also for a pool of one
        if sender.prefetch_multiplier == sender.app.conf.worker_prefetch_multiplier:
            sender.prefetch_multiplier = get_settings().orders_prefetch


def unfit(conf: Any) -> str | None:
    """Why an orders worker cannot take many messages at once as it is configured, and what to do; None where it can."""
    stock = "or set ORDERMILL_ORDERS_TRANSPORT=stock"
    urls = [conf.broker_url] if isinstance(conf.broker_url, str) else list(conf.broker_url)
    addresses = [address for url in urls for address in url.split(";")]
    if conf.broker_transport_options.get("global_keyprefix"):
        return f"an orders worker cannot use a global key prefix: give it a Redis database of its own, {stock}"
    if len(addresses) > 1 and not all(address.startswith("sentinel") for address in addresses):
        return f"an orders worker cannot use several broker URLs: give CELERY_BROKER_URL one address, {stock}"
    return None


@worker_process_init.connect(weak=False)
def _connect_after_fork(**_: Any) -> None:
    """A child never shares a connection, or a thread, with its parent or siblings. The solo pool says this too."""
    forget()
    begin_tracing()


@worker_process_shutdown.connect(weak=False)
@worker_shutdown.connect(weak=False)  # of the solo pool, and of a parent that has not begun
def _end_of_process(**_: Any) -> None:
    end_tracing()
