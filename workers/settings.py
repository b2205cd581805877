"""What can be configured, read from the environment. No other module reads an environment variable.

`DATABASE_URL`, `REDIS_URL` and `CELERY_BROKER_URL` are the field's own names; the rest start with `ORDERMILL_`.
"""

import os
import re
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

from pydantic import AliasChoices, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from redis.connection import parse_url

from workers.mail import SmtpServer
from workers.misspelt import tell
from workers.secret_files import SecretFiles

SCHEMES = {
    "database_url": ("postgresql", "postgres"),
    "redis_url": ("redis", "rediss", "redis+socket", "sentinel"),
}


CACHE_SCHEMES = ("redis://", "rediss://", "unix://")


class Settings(BaseSettings):
    """Every setting, with its default; raises `pydantic.ValidationError` naming a value that cannot be used."""

    # An error must not show what was given: addresses have passwords.
    model_config = SettingsConfigDict(
        env_prefix="ORDERMILL_", extra="ignore", validate_by_name=True, hide_input_in_errors=True
    )

    database_url: str = Field(
        "postgresql://localhost:5432/ordermill",
        min_length=1,
        validation_alias=AliasChoices("DATABASE_URL"),
        description="PostgreSQL 15 or newer: the owner's login for `ordermill migrate`, any member of the role else.",
    )
    redis_url: str = Field(
        "redis://localhost:6379/0",
        min_length=1,
        validation_alias=AliasChoices("REDIS_URL"),
        description="Redis 7 or Valkey: results and, unless CELERY_BROKER_URL says otherwise, the broker.",
    )
    broker_url: str = Field(
        "",
        validation_alias=AliasChoices("CELERY_BROKER_URL"),
        description="The Celery broker: an instance with `noeviction` and AOF. Default: REDIS_URL.",
    )
    sentinel_master: str = Field(
        "", description="The name of the master behind `sentinel://` addresses; several are separated by `;`."
    )
    role: str = Field(
        "ordermill_worker",
        pattern=r"^[a-z_][a-z0-9_]{0,62}$|^$",
        description="The role each runtime connection takes with SET ROLE; empty: stay who you logged in as.",
    )
    secrets_dir: Path | None = Field(
        None,
        description="A folder with files named as these variables, such as `/run/secrets`: each holds the value of one "
        "that the environment does not give.",
    )
    alive_file: Path | None = Field(
        None,
        description="A file that a worker and beat touch while they do their work, for a health check that costs "
        "nothing; none: nothing is touched.",
    )
    home: Path = Field(Path(".ordermill"), description="Where `demo` and `up` keep embedded servers, logs and results.")
    lock_timeout_ms: int = Field(
        2_000, ge=10, description="How long a statement waits for a lock before it is retried."
    )
    statement_timeout_ms: int = Field(
        5_000, ge=100, description="How long a statement may run; must be above the lock timeout."
    )
    job_statement_timeout_ms: int = Field(
        600_000, ge=1_000, description="The same for maintenance jobs, such as `verify`, that read the whole shop."
    )
    retry_quick_attempts: int = Field(10, ge=1, le=100, description="Attempts after a deadlock or a lock timeout.")
    retry_slow_seconds: float = Field(
        6.0,
        gt=0,
        le=3_600,
        description="How long an outage is retried in place before the message goes back to the queue.",
    )
    place_batch: int = Field(
        100, ge=1, le=500, description="Orders placed in one transaction by the drain and by `orders.place_many`."
    )
    refuse_sold_out: bool = Field(
        False,
        description="`on`: an `orders` worker refuses an order for a sold-out sku before it is accepted: nothing is "
        "stored, and its key stays unused. Its applications must know the status `refused`.",
    )
    place_many_limit: int = Field(500, ge=1, le=5_000, description="The most orders one `orders.place_many` may carry.")
    drains: int = Field(
        2,
        ge=1,
        le=16,
        description="How many `orders.drain` may work at one pool at the same time, each in a process of a general "
        "worker; all but one only while whole batches wait. More than PostgreSQL has cores help nobody.",
    )
    drain_seconds: float = Field(
        10.0,
        gt=0,
        le=300,
        description="How long one `orders.drain` runs before it hands over; a warm stop waits this long.",
    )
    dispatch_seconds: float = Field(
        10.0,
        gt=0,
        le=300,
        description="How long one `events.dispatch` runs before it hands over; a warm stop waits this long.",
    )
    claim_lease_seconds: int = Field(
        7, ge=1, description="After this a claim whose drain died is swept back; must exceed the statement timeout."
    )
    claim_attempts: int = Field(
        3, ge=1, le=20, description="Attempts before what kills its drain or its worker is a dead letter."
    )
    visibility_timeout: int = Field(
        8, ge=2, description="Seconds until an `orders` message of a killed worker is delivered again."
    )
    orders_transport: Literal["batch", "stock"] = Field(
        "batch", description="How an `orders` worker takes messages: many at once, or one by one by stock kombu."
    )
    orders_prefetch: int = Field(
        100, ge=1, le=1_000, description="The most messages that an `orders` worker has in hand (100 in one fetch)."
    )
    orders_workers: int = Field(
        2, ge=1, le=64, description="Solo `orders` worker processes started by `demo` and `up`."
    )
    webhooks_seconds: float = Field(
        10.0,
        gt=0,
        le=300,
        description="How long one `webhooks.deliver` runs before it hands over; a warm stop waits this long.",
    )
    webhooks_allow: str = Field(
        "",
        description="Networks that webhooks may go to though they are not public, also without TLS: "
        "`127.0.0.0/8,10.1.0.0/16`.",
    )
    webhooks_threads: int = Field(16, ge=1, le=256, description="Threads of a deliverer of webhooks.")
    webhooks_per_endpoint: int = Field(
        4, ge=1, le=256, description="The most of these threads that one endpoint has, however slow it is."
    )
    webhooks_attempts: int = Field(
        10, ge=1, le=100, description="Attempts at a delivery before it is a dead letter and its stream goes on."
    )
    webhooks_backoff_seconds: float = Field(
        2.0, gt=0, le=3_600, description="Until the second attempt; each next one waits four times as long."
    )
    webhooks_backoff_max_seconds: float = Field(
        21_600.0, gt=0, le=604_800, description="The longest wait for an attempt, whatever Retry-After asks for."
    )
    webhooks_disable_hours: int = Field(
        120, ge=1, description="An endpoint whose every delivery has failed for this long is stopped."
    )
    webhooks_kept_days: int = Field(
        3, ge=1, description="How long a delivery that has ended can be seen in `api.webhook_deliveries`."
    )
    keys_kept_days: int = Field(90, ge=1, description="How long a decided request key, and so its answer, is kept.")
    log_format: Literal["console", "json"] = Field(
        "console", description="Log lines for people, or one JSON object each, for a machine that collects them."
    )
    traces: bool = Field(
        False, description="`on`: OpenTelemetry traces, by OTLP; needs the extra `traces`, heeds `OTEL_…` variables."
    )
    archive_dir: Path | None = Field(
        None, description="Where retired partitions are archived as Parquet; without it none is retired."
    )
    maintenance_url: str = Field(
        "",
        description="A login that is a member of `ordermill_owner`, for retiring partitions. Default: DATABASE_URL.",
    )
    smtp_url: str = Field(
        "",
        repr=False,
        description="Mail of low-stock alerts goes there: `smtp://user:password@host:587` (STARTTLS where the server "
        "offers it; never with `?starttls=never`), or `smtps://host:465`. A password goes over TLS only.",
    )
    mail_from: str = Field(
        "ordermill@localhost",
        description="The sender of mail, an address alone. Its domain is also that of the Message-ID.",
    )
    smtp_timeout_seconds: float = Field(
        10.0, gt=0, le=25, description="How long each answer of the SMTP server may take."
    )
    mail_attempts: int = Field(12, ge=1, le=100, description="Attempts before a mail is a dead letter.")
    mail_retry_seconds: float = Field(
        30.0,
        gt=0,
        le=3_600,
        description="The pause after a mail's first attempt; each is twice the last, up to an hour.",
    )
    alerts_gather_seconds: float = Field(
        60.0, ge=0, le=86_400, description="How long a mail gathers alerts before it is sent."
    )
    alerts_escalate_minutes: float = Field(
        60.0,
        gt=0,
        le=525_600,
        description="After so long without anybody looking after it, an alert is escalated to 1.",
    )
    alerts_escalate_again_minutes: float = Field(240.0, gt=0, le=525_600, description="And after so long to 2.")
    alerts_kept_days: int = Field(
        90, ge=1, description="How long an alert is kept after its level recovered, and a mail after it was sent."
    )
    cache_url: str = Field(
        "",
        description="Redis for cached reads: an instance of its own with eviction, or else a database of its own. "
        "Default: another database of REDIS_URL's server; behind Sentinel none, and reads go to PostgreSQL.",
    )
    cache_timeout_ms: int = Field(
        200, ge=10, le=10_000, description="How long the cache may take to answer before PostgreSQL is read instead."
    )
    cache_seconds: int = Field(
        300, ge=1, le=86_400, description="How long a product or category is kept at most, whatever events say."
    )
    cache_availability_seconds: int = Field(60, ge=1, le=3_600, description="The same for the availability of a sku.")
    cache_negative_seconds: int = Field(30, ge=1, le=3_600, description="The same for what there is not.")
    flower_user: str = Field("ordermill", min_length=1, description="Flower's user for basic auth.")
    flower_password: str | None = Field(None, description="Flower's password; made anew at each start when not given.")
    flower_port: int = Field(5555, ge=0, le=65_535, description="Flower's port on loopback.")
    metrics_dir: Path | None = Field(
        None,
        description="A folder where this host's workers keep counts for `ordermill metrics`; none: nothing is counted.",
    )
    metrics_port: int = Field(9540, ge=0, le=65_535, description="The port of `ordermill metrics` on loopback.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        *_: PydanticBaseSettingsSource,
        **__: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment, then the files of ORDERMILL_SECRETS_DIR."""
        return init_settings, env_settings, SecretFiles(settings_cls)

    @field_validator("secrets_dir")
    @classmethod
    def _is_a_folder(cls, value: Path | None) -> Path | None:
        if value and not value.is_dir():
            raise ValueError("there is no such folder")
        return value

    @field_validator("cache_url")
    @classmethod
    def _is_a_cache(cls, value: str) -> str:
        if value and not value.startswith(CACHE_SCHEMES):
            raise ValueError(f"an address starts with one of {', '.join(CACHE_SCHEMES)}")
        try:
            _read_url(value or "redis://")
        except ValueError as error:
            raise ValueError(f"{error}: write it as redis://:password@host:6379/1") from None
        return value

    @field_validator("database_url", "maintenance_url", "redis_url", "broker_url")
    @classmethod
    def _is_an_address(cls, value: str, info: ValidationInfo) -> str:
        of_database = info.field_name in {"database_url", "maintenance_url"}
        schemes = SCHEMES["database_url" if of_database else "redis_url"]
        for address in [value] if of_database else value.split(";"):
            scheme = address.partition("://")[0].strip() if "://" in address else ""
            if address and (scheme.partition("+")[0] if of_database else scheme) not in schemes:
                raise ValueError(f"an address starts with one of {', '.join(f'{each}://' for each in schemes)}")
            try:
                _ = urlsplit(address).port
            except ValueError:
                raise ValueError("the port of an address is a number, and / in a password is written %2F") from None
        return value

    @field_validator("smtp_url")
    @classmethod
    def _is_an_smtp_server(cls, value: str) -> str:
        if value:
            SmtpServer.parse(value)
        return value

    @field_validator("mail_from")
    @classmethod
    def _can_send(cls, value: str) -> str:
        address = r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9.-]+"
        if not re.fullmatch(address, value) or re.search(r"=\?|^\.|\.\.|\.@|@\.|\.$", value):  # as PostgreSQL has it
            raise ValueError("give an address alone, such as shop@example.com")
        return value

    @field_validator("webhooks_allow")
    @classmethod
    def _is_networks(cls, value: str) -> str:
        for each in filter(None, map(str.strip, value.split(","))):
            try:
                ip_network(each)
            except ValueError as error:
                raise ValueError(f"{error}: give networks such as 10.1.0.0/16, separated by commas") from None
        return value

    @model_validator(mode="after")
    def _agree(self) -> "Settings":
        if not self.broker_url:
            self.broker_url = self.redis_url
        if self.cache_url and same_database(self.cache_url, self.broker_url):
            raise ValueError(
                "ORDERMILL_CACHE_URL is the broker's database: give the cache another one, or better an instance of "
                "its own with eviction"
            )
        if self.lock_timeout_ms >= self.statement_timeout_ms:
            raise ValueError("ORDERMILL_LOCK_TIMEOUT_MS must be below ORDERMILL_STATEMENT_TIMEOUT_MS")
        if self.claim_lease_seconds * 1000 <= self.statement_timeout_ms:
            raise ValueError("ORDERMILL_CLAIM_LEASE_SECONDS must be longer than ORDERMILL_STATEMENT_TIMEOUT_MS")
        if self.alerts_escalate_minutes >= self.alerts_escalate_again_minutes:
            raise ValueError("ORDERMILL_ALERTS_ESCALATE_MINUTES must be below ORDERMILL_ALERTS_ESCALATE_AGAIN_MINUTES")
        if not self.sentinel_master and "sentinel://" in (self.broker_url + self.redis_url):
            raise ValueError("ORDERMILL_SENTINEL_MASTER must name the master behind a sentinel:// address")
        return self

    @property
    def webhooks_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """What ORDERMILL_WEBHOOKS_ALLOW names."""
        return tuple(ip_network(each) for each in filter(None, map(str.strip, self.webhooks_allow.split(","))))

    @property
    def cache_address(self) -> str:
        """Where cached reads are kept: the given address, else a database of REDIS_URL's server that is neither for
        results nor for the broker; empty where neither can be said."""
        if self.cache_url:
            return self.cache_url
        results = self.redis_url.replace("redis+socket://", "unix://")
        if not results.startswith(CACHE_SCHEMES):
            return ""
        number = database_of(results)
        for step in range(1, 16):
            address = at_database(results, (number + step) % 16)
            if not same_database(address, self.broker_url):
                return address
        return ""

    @property
    def orders_patience(self) -> float:
        """Seconds that an orders worker tries again in place: a message is back in its queue before others take it."""
        return min(self.retry_slow_seconds, max(0.5, self.visibility_timeout - self.statement_timeout_ms / 1000 - 1))


def _read_url(url: str) -> dict[str, Any]:
    return dict(parse_url(url))  # type: ignore[no-untyped-call]


def database_of(url: str) -> int:
    """The logical database that an address of Redis names; 0 where it names none."""
    return int(_read_url(url).get("db", 0))


def at_database(url: str, number: int) -> str:
    """The same server's logical database of this number."""
    parts = urlsplit(url)
    others = [each for each in parts.query.split("&") if each and not each.startswith("db=")]
    if parts.scheme == "unix":
        return f"unix://{parts.netloc}{parts.path}?{'&'.join([*others, f'db={number}'])}"
    return urlunsplit(parts._replace(path=f"/{number}", query="&".join(others)))


def same_database(url: str, other: str) -> bool:
    """Whether two addresses of Redis name one database, whatever the login."""
    other = other.replace("redis+socket://", "unix://")
    if not other.startswith(CACHE_SCHEMES):
        return False
    ours, theirs = _read_url(url), _read_url(other)
    defaults = {"host": "localhost", "port": 6379, "path": None, "db": 0}
    return all(ours.get(name, default) == theirs.get(name, default) for name, default in defaults.items())


def unusable(error: ValidationError) -> str:
    """The first setting that cannot be used, by its variable, as one line."""
    problem = error.errors()[0]
    names = [str(part) if str(part).isupper() else f"ORDERMILL_{part}".upper() for part in problem["loc"]]
    message = problem["msg"].removeprefix("Value error, ")
    return f"{names[0] if names else 'the settings'} cannot be used: {message}"


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings of this process, read once; what looks like one and is none is told on stderr."""
    tell(os.environ, Settings.model_fields)
    return Settings()
