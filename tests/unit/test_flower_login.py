"""Which of Flower's own variables count as a login, and which logins it would read as another."""

import os
import sys

import pytest

from workers.embedded_valkey import free_port
from workers.errors import SetupError
from workers.flower import prepare_flower
from workers.settings import Settings

NAMES = ("FLOWER_ADDRESS", "FLOWER_PORT", "FLOWER_BASIC_AUTH", "FLOWER_AUTH", "FLOWER_AUTH_PROVIDER")


@pytest.fixture(autouse=True)
def _flower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["celery", "flower"])
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that what is set here is taken back too
        monkeypatch.delenv(name)


def login(monkeypatch: pytest.MonkeyPatch, settings: Settings | None = None, **env: str) -> str | None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    settings = settings or Settings(flower_user="ada", flower_password="secret")
    prepare_flower(settings.model_copy(update={"flower_port": free_port()}))
    return os.environ.get("FLOWER_BASIC_AUTH")


@pytest.mark.parametrize(
    "env",
    [
        {"FLOWER_BASIC_AUTH": ""},
        {"FLOWER_BASIC_AUTH": " "},
        {"FLOWER_AUTH": ""},
        {"FLOWER_AUTH_PROVIDER": "flower.views.auth.GithubLoginHandler"},
    ],
    ids=str,
)
def test_what_is_no_login_does_not_open_flower(monkeypatch: pytest.MonkeyPatch, env: dict[str, str]) -> None:
    assert login(monkeypatch, **env) == "ada:secret"


def test_flowers_own_logins_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    assert login(monkeypatch, FLOWER_BASIC_AUTH="bob:x,eve:y") == "bob:x,eve:y"


def test_so_does_its_oauth(monkeypatch: pytest.MonkeyPatch) -> None:
    provider = "flower.views.auth.GithubLoginHandler"
    assert login(monkeypatch, FLOWER_AUTH=".*@example.com", FLOWER_AUTH_PROVIDER=provider) is None


@pytest.mark.parametrize("given", ["bob", "bob:", ":x", "bob:x,eve", "bob:x,"])
def test_a_login_without_a_name_or_password_is_refused(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    with pytest.raises(SetupError, match="must be user:password"):
        login(monkeypatch, FLOWER_BASIC_AUTH=given)


@pytest.mark.parametrize(("user", "password"), [("ada", "a,b"), ("a,b", "x"), ("a:b", "x"), ("a,b", None)])
def test_a_login_that_flower_would_split_is_refused(
    monkeypatch: pytest.MonkeyPatch, user: str, password: str | None
) -> None:
    with pytest.raises(SetupError, match="must not contain a comma"):
        login(monkeypatch, Settings(flower_user=user, flower_password=password))


def test_another_process_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["celery", "worker"])
    assert login(monkeypatch) is None
