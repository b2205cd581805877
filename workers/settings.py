"""What can be configured, read from the environment. No other module reads an environment variable.

`DATABASE_URL`, `REDIS_URL` and `CELERY_BROKER_URL` are the field's own names; the rest start with `ORDERMILL_`.
"""

from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

SCHEMES = {
    "database_url": ("postgresql", "postgres"),
    "redis_url": ("redis", "rediss", "redis+socket", "sentinel"),
}


class Settings(BaseSettings):
    """Every setting, with its default; raises `pydantic.ValidationError` naming a value that cannot be used."""

    model_config = SettingsConfigDict(env_prefix="ORDERMILL_", extra="ignore", validate_by_name=True)

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
        50, ge=1, le=500, description="Orders the drain places in one transaction (10 to 50 were fastest on 2 cores)."
    )
    place_many_limit: int = Field(500, ge=1, le=5_000, description="The most orders one `orders.place_many` may carry.")
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
        10, ge=1, description="After this a claim whose drain died is swept back; must exceed the statement timeout."
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
    keys_kept_days: int = Field(90, ge=1, description="How long a decided request key, and so its answer, is kept.")
    flower_user: str = Field("ordermill", min_length=1, description="Flower's user for basic auth.")
    flower_password: str | None = Field(None, description="Flower's password; made anew at each start when not given.")
    flower_port: int = Field(5555, ge=0, le=65_535, description="Flower's port on loopback.")

    metrics_dir: Path | None = Field(
        None,
        description="A folder where this host's workers keep counts for `ordermill metrics`; none: nothing is counted.",
    )
    metrics_port: int = Field(9540, ge=0, le=65_535, description="The port of `ordermill metrics` on loopback.")

    @field_validator("database_url", "redis_url", "broker_url")
    @classmethod
    def _is_an_address(cls, value: str, info: ValidationInfo) -> str:
        of_database = info.field_name == "database_url"
        schemes = SCHEMES["database_url" if of_database else "redis_url"]
        for address in [value] if of_database else value.split(";"):
            scheme = address.partition("://")[0].strip() if "://" in address else ""
            if address and (scheme.partition("+")[0] if of_database else scheme) not in schemes:
                raise ValueError(f"an address starts with one of {', '.join(f'{each}://' for each in schemes)}")
        return value

    @model_validator(mode="after")
    def _agree(self) -> "Settings":
        if not self.broker_url:
            self.broker_url = self.redis_url
        if self.lock_timeout_ms >= self.statement_timeout_ms:
            raise ValueError("ORDERMILL_LOCK_TIMEOUT_MS must be below ORDERMILL_STATEMENT_TIMEOUT_MS")
        if self.claim_lease_seconds * 1000 <= self.statement_timeout_ms:
            raise ValueError("ORDERMILL_CLAIM_LEASE_SECONDS must be longer than ORDERMILL_STATEMENT_TIMEOUT_MS")
        if not self.sentinel_master and "sentinel://" in (self.broker_url + self.redis_url):
            raise ValueError("ORDERMILL_SENTINEL_MASTER must name the master behind a sentinel:// address")
        return self

    @property
    def orders_patience(self) -> float:
        """Seconds that an orders worker tries again in place: a message is back in its queue before others take it."""
        return min(self.retry_slow_seconds, max(0.5, self.visibility_timeout - self.statement_timeout_ms / 1000 - 1))


def unusable(error: ValidationError) -> str:
    """The first setting that cannot be used, by its variable, as one line."""
    problem = error.errors()[0]
    names = [str(part) if str(part).isupper() else f"ORDERMILL_{part}".upper() for part in problem["loc"]]
    message = problem["msg"].removeprefix("Value error, ")
    return f"{names[0] if names else 'the settings'} cannot be used: {message}"


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings of this process, read once."""
    return Settings()
