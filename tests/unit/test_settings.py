"""Settings: where each comes from, what they default to, and which do not go together."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from workers.alive import touch
from workers.database import sqlalchemy_url
from workers.errors import SetupError
from workers.misspelt import misspelt
from workers.settings import Settings, get_settings, unusable

NAMES = ("DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL")


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*NAMES, *(f"ORDERMILL_{field.upper()}" for field in Settings.model_fields)):
        monkeypatch.delenv(name, raising=False)


def test_defaults_are_a_server_on_this_machine() -> None:
    settings = Settings()

    assert settings.database_url == "postgresql://localhost:5432/ordermill"
    assert settings.broker_url == settings.redis_url == "redis://localhost:6379/0"
    assert (settings.role, settings.home, settings.flower_port) == ("ordermill_worker", Path(".ordermill"), 5555)
    assert settings.flower_password is None


def test_servers_have_the_names_that_everybody_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://a/b")
    monkeypatch.setenv("REDIS_URL", "redis://r/1")
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://q/2")

    settings = Settings()

    assert (settings.database_url, settings.redis_url, settings.broker_url) == (
        "postgresql://a/b",
        "redis://r/1",
        "redis://q/2",
    )


def test_the_broker_is_redis_unless_said_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://r/1")

    assert Settings().broker_url == "redis://r/1"


def test_the_rest_starts_with_ordermill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORDERMILL_HOME", "/somewhere")
    monkeypatch.setenv("ORDERMILL_PLACE_BATCH", "10")
    monkeypatch.setenv("ORDERMILL_ROLE", "")

    settings = Settings()

    assert (settings.home, settings.place_batch, settings.role) == (Path("/somewhere"), 10, "")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ROLE", "a; DROP TABLE x"),
        ("PLACE_BATCH", "0"),
        ("PLACE_BATCH", "many"),
        ("FLOWER_PORT", "65536"),
        ("ORDERS_WORKERS", "0"),
        ("CLAIM_ATTEMPTS", "0"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"ORDERMILL_{name}", value)

    with pytest.raises(ValidationError, match=name.lower()):
        Settings()


def test_a_lock_is_not_waited_for_longer_than_a_statement_may_run() -> None:
    with pytest.raises(ValidationError, match="LOCK_TIMEOUT_MS must be below"):
        Settings(lock_timeout_ms=5_000, statement_timeout_ms=5_000)


def test_a_claim_is_leased_for_longer_than_its_statement_may_run() -> None:
    with pytest.raises(ValidationError, match="CLAIM_LEASE_SECONDS must be longer"):
        Settings(claim_lease_seconds=5, statement_timeout_ms=5_000)


def test_settings_are_read_once_a_process() -> None:
    get_settings.cache_clear()
    try:
        assert get_settings() is get_settings()
    finally:
        get_settings.cache_clear()


def test_every_setting_says_what_it_is_for() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


@pytest.mark.parametrize("url", ["postgresql://u:p@h:1/d", "postgres://u:p@h:1/d", "postgresql+psycopg://u:p@h:1/d"])
def test_any_spelling_of_a_postgresql_address_is_taken(url: str) -> None:
    assert sqlalchemy_url(url) == "postgresql+psycopg://u:p@h:1/d"


def test_another_database_is_refused() -> None:
    with pytest.raises(ValueError, match="must start with postgresql://"):
        sqlalchemy_url("mysql://h/d")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://a/b"),
        ("DATABASE_URL", "garbage"),
        ("REDIS_URL", "amqp://r"),
        ("CELERY_BROKER_URL", "memory://"),
        ("CELERY_BROKER_URL", "redis://a;amqp://b"),
        ("ORDERMILL_CACHE_URL", "memcached://m"),
        ("ORDERMILL_CACHE_URL", "sentinel://s"),
    ],
)
def test_an_address_of_another_kind_of_server_is_refused_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(ValidationError, match="an address starts with one of") as refused:
        Settings()

    assert unusable(refused.value).startswith(f"{name} cannot be used")


@pytest.mark.parametrize("value", ["postgresql://u:pa;ss@h/db", "postgresql+psycopg2://h/db", "postgres://h/db"])
def test_any_address_of_postgresql_is_taken(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("DATABASE_URL", value)

    assert Settings().database_url == value


@pytest.mark.parametrize(
    "value",
    [
        "http://h",
        "mail.example:25",
        "smtp://",
        "smtp://u:se/same@h:25",
        "smtp://u:sesame@h:many",
        "smtp://h:70000",
        "smtp://h/box",
        "smtp://h?tls=no",
    ],
)
def test_an_smtp_server_that_cannot_be_read_is_refused_and_its_password_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("ORDERMILL_SMTP_URL", value)

    with pytest.raises(ValidationError) as refused:
        Settings()

    assert unusable(refused.value).startswith("ORDERMILL_SMTP_URL cannot be used: ")
    assert "same" not in str(refused.value) + unusable(refused.value)


def test_the_smtp_server_is_not_shown_with_the_settings() -> None:
    assert "sesame" not in repr(Settings(smtp_url="smtp://u:sesame@h"))


def test_the_second_escalation_is_after_the_first() -> None:
    with pytest.raises(ValidationError, match="ALERTS_ESCALATE_MINUTES must be below"):
        Settings(alerts_escalate_minutes=60, alerts_escalate_again_minutes=60)


@pytest.mark.parametrize("sender", ["", "nobody", "Mill <mill@x.example>", "a@b\nBcc: c@d", "a@b..c", "=?x?q?=0A?=@b"])
def test_a_sender_is_an_address_alone(sender: str) -> None:
    with pytest.raises(ValidationError, match="mail_from"):
        Settings(mail_from=sender)


@pytest.mark.parametrize(
    ("results", "broker", "cache"),
    [
        ("redis://r:6379/0", "", "redis://r:6379/1"),
        ("redis://r:6379", "", "redis://r:6379/1"),
        ("redis://:p%40ss@r:6379/0", "redis://r:6379/1", "redis://:p%40ss@r:6379/2"),
        ("redis://r/15", "redis://r/0", "redis://r/1"),
        ("rediss://r:1/3?ssl_cert_reqs=required", "redis://q/4", "rediss://r:1/4?ssl_cert_reqs=required"),
        ("redis+socket:///run/redis.sock", "", "unix:///run/redis.sock?db=1"),
        ("redis+socket:///run/r.sock?db=2", "redis+socket:///run/r.sock?db=3", "unix:///run/r.sock?db=4"),
    ],
)
def test_the_cache_is_another_database_of_the_server_of_results_unless_said_otherwise(
    results: str, broker: str, cache: str
) -> None:
    assert Settings(redis_url=results, broker_url=broker).cache_address == cache


def test_behind_sentinel_there_is_no_cache_unless_it_has_an_address() -> None:
    sentinel = {"redis_url": "sentinel://s:26379/0", "sentinel_master": "m"}

    assert Settings(**sentinel).cache_address == ""  # type: ignore[arg-type]
    assert Settings(**sentinel, cache_url="redis://c/0").cache_address == "redis://c/0"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("broker", "cache"),
    [
        ("redis://:p@localhost:6379/0", "redis://localhost"),
        ("redis://q/2", "redis://:other@q:6379/2"),
        ("redis+socket:///run/r.sock", "unix:///run/r.sock"),
    ],
)
def test_the_cache_is_never_in_the_brokers_database(monkeypatch: pytest.MonkeyPatch, broker: str, cache: str) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", broker)
    monkeypatch.setenv("ORDERMILL_CACHE_URL", cache)

    with pytest.raises(ValidationError) as refused:
        Settings()

    assert "ORDERMILL_CACHE_URL is the broker's database" in unusable(refused.value)


def test_what_the_environment_does_not_give_is_read_from_the_folder_of_secrets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ORDERMILL_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("REDIS_URL", "redis://given/1")
    for name, text in {"DATABASE_URL": "postgresql://a:b@c/d\n", "REDIS_URL": "redis://file/1",
                       "ORDERMILL_FLOWER_PASSWORD": "of the file\n", "unrelated": "x"}.items():  # fmt: skip
        (tmp_path / name).write_text(text)

    settings = Settings()

    assert (settings.database_url, settings.redis_url) == ("postgresql://a:b@c/d", "redis://given/1")
    assert settings.flower_password == "of the file"


def test_a_folder_of_secrets_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ORDERMILL_SECRETS_DIR", str(tmp_path / "none"))

    with pytest.raises(ValidationError) as raised:
        Settings()

    assert unusable(raised.value) == "ORDERMILL_SECRETS_DIR cannot be used: there is no such folder"


def test_a_secret_that_cannot_be_read_is_one_sentence_without_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ORDERMILL_SECRETS_DIR", str(tmp_path))
    (tmp_path / "DATABASE_URL").write_bytes(b"postgresql://\xff")

    with pytest.raises(SetupError, match=r"^ORDERMILL_SECRETS_DIR: .*database_url.*can't decode"):
        Settings()


def test_a_file_says_that_a_process_is_alive_where_one_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("alive", "no folder/alive"):
        monkeypatch.setenv("ORDERMILL_ALIVE_FILE", str(tmp_path / name))
        get_settings.cache_clear()
        touch()
    get_settings.cache_clear()

    assert [path.name for path in tmp_path.iterdir()] == ["alive"]
    assert "ORDERMILL_ALIVE_FILE cannot be touched" in caplog.text


def test_a_misspelt_setting_is_told_and_what_may_be_anothers_is_not() -> None:
    given = {"ORDERMILL_DRAINZ": "3", "ORDERMILL_WEBHOOKS_ALOW": "", "ORDERMILL_DRAINS": "2", "ORDERMILL_IMAGE": "x"}

    assert misspelt(given, Settings.model_fields) == {
        "ORDERMILL_DRAINZ": "ORDERMILL_DRAINS",
        "ORDERMILL_WEBHOOKS_ALOW": "ORDERMILL_WEBHOOKS_ALLOW",
    }
    every = dict.fromkeys((f"ORDERMILL_{name.upper()}" for name in Settings.model_fields), "")
    assert misspelt(every, Settings.model_fields) == {}
