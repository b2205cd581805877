"""docs/configuration.md: each field of `workers.settings.Settings`."""

from typing import Any

from pydantic import AliasChoices
from pydantic.fields import FieldInfo

from generators.markdown import code, fenced, generated_by, page, table
from workers.settings import Settings

BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
INTRODUCTION = """\
Every process reads its settings from the environment when it starts. A value that cannot be used stops it with one line
that names the variable; a name that only resembles one of these is told
on stderr. `make demo`, `make up` and `make test` start their own servers unless `DATABASE_URL` and
`REDIS_URL` are set."""

BROKER = """\
## The broker

The broker must not lose or evict messages. Redis 7 or newer, or Valkey, with:"""
BROKER_SETTINGS = """\
maxmemory-policy noeviction
appendonly yes
appendfsync everysec"""
BROKER_NOTE = """\
With `appendfsync everysec` a crash of the Redis host can lose the last second of messages sent by Celery. Their keys
are unknown afterwards (`api.order_outcome` gives NULL): send them again under the same keys. Orders submitted by SQL
are not affected. Redis Cluster does not work as a Celery broker.

`orders` workers need the right to `EVAL` and `BLMOVE`, one address, one queue, and no global key prefix; a worker that
cannot work so says it and stops. Behind Sentinel, write `sentinel://host:26379/0;sentinel://other:26379/0` and name the
master in `ORDERMILL_SENTINEL_MASTER`. With TLS, write `rediss://host:6380/0`
([logins and certificates](security.md#tls-and-logins-to-redis)). For a Unix socket, write
`redis+socket:///run/redis.sock`."""

CACHE = """\
## The cache

Give the cache an instance of Redis or Valkey of its own, in `ORDERMILL_CACHE_URL`, that evicts and writes nothing to
disk:"""
CACHE_SETTINGS = """\
maxmemory 256mb
maxmemory-policy allkeys-lfu
appendonly no
save ""
"""
CACHE_NOTE = """\
Without it, another logical database of `REDIS_URL`'s server is used: the next one that neither results nor the broker
have. That is good for a trial. `maxmemory` and its policy are of a whole instance, so a cache beside a broker cannot
evict, and is bounded only by how long its entries live. The broker's own database is refused. One Ordermill a database:
keys do not name the shop. Schemes are `redis://`, `rediss://` and `unix://`; behind Sentinel there is no cache unless
it is given an address."""

LIMITS = """\
## What must agree

- `ORDERMILL_LOCK_TIMEOUT_MS` < `ORDERMILL_STATEMENT_TIMEOUT_MS` < `ORDERMILL_CLAIM_LEASE_SECONDS`: a lock that cannot
  be had is retried before the statement is cut off, and a claim outlives the statement that places it. Checked when a
  process starts.
- `ORDERMILL_VISIBILITY_TIMEOUT` should exceed `ORDERMILL_STATEMENT_TIMEOUT_MS`, else a slow order is delivered a second
  time while the first is at work. That is harmless, because the second finds the first's answer, but it is work.
- All `orders` workers of one broker need the same `ORDERMILL_VISIBILITY_TIMEOUT`.

Flower's own `FLOWER_…` variables win over the three `ORDERMILL_FLOWER_…` settings."""


def document() -> str:
    """The text of docs/configuration.md."""
    fields = Settings.model_fields.items()
    return page(
        generated_by("`workers/settings.py`"),
        "# Configuration",
        INTRODUCTION,
        table(("variable", "default", "bounds", "meaning"), (_row(name, field) for name, field in fields)),
        LIMITS,
        BROKER,
        fenced("conf", BROKER_SETTINGS),
        BROKER_NOTE,
        CACHE,
        fenced("conf", CACHE_SETTINGS.strip()),
        CACHE_NOTE,
    )


def variable(name: str, field: FieldInfo) -> str:
    """The environment variable of a field."""
    alias = field.validation_alias
    if isinstance(alias, AliasChoices):
        return str(alias.choices[0])
    return f"{Settings.model_config.get('env_prefix', '')}{name}".upper()


def _row(name: str, field: FieldInfo) -> tuple[str, str, str, str]:
    if not field.description:
        raise SystemExit(f"workers/settings.py: {name} has no description")
    return code(variable(name, field)), _default(field.default), _bounds(field), field.description


def _default(value: Any) -> str:
    return "(none)" if value in (None, "") else code(str(value))


def _bounds(field: FieldInfo) -> str:
    found = []
    for rule in field.metadata:
        found += [f"{sign} {getattr(rule, name):,}" for name, sign in BOUNDS.items() if hasattr(rule, name)]
        if getattr(rule, "min_length", None):
            found.append("not empty")
        if getattr(rule, "pattern", None):
            found.append("a role's name, or empty")
    return ", ".join(found)
