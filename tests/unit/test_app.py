"""The application in a process of its own: what Celery reads from the environment by itself."""

import os
import subprocess
import sys

SAY = "from workers.app import app; print(app.conf.broker_url, app.conf.broker_read_url, app.conf.result_backend)"


def told(**env: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CELERY_", "REDIS_URL"))}
    return subprocess.run(
        [sys.executable, "-c", SAY], env=kept | env, capture_output=True, text=True, timeout=60, check=True
    )


def test_the_settings_win_over_celerys_own_variables_which_are_named() -> None:
    done = told(
        REDIS_URL="redis://r/1",
        CELERY_RESULT_BACKEND="redis://elsewhere/9",
        CELERY_BROKER_READ_URL="redis://elsewhere/8",
    )

    assert done.stdout.split() == ["redis://r/1", "redis://r/1", "redis://r/1"]
    assert "CELERY_RESULT_BACKEND is ignored: set REDIS_URL" in done.stderr
    assert "CELERY_BROKER_READ_URL is ignored" in done.stderr


def test_the_brokers_variable_is_a_setting_and_nothing_is_said() -> None:
    done = told(REDIS_URL="redis://r/1", CELERY_BROKER_URL="redis://q/2")

    assert done.stdout.split() == ["redis://q/2", "redis://q/2", "redis://r/1"]
    assert "is ignored" not in done.stderr
