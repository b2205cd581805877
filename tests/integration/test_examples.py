"""The Celery examples where nothing answers them: one line, and what to send again."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents import document
from tests.workers_fixtures import Mill, clean_environment


@pytest.mark.parametrize(("program", "key"), [("place_order.py", "web"), ("place_many_orders.py", "many")])
def test_without_a_worker_one_line_says_what_to_send_again(program: str, key: str, mill: Mill, tmp_path: Path) -> None:
    text = document(f"examples/{program}")
    assert "timeout=30" in text
    (tmp_path / program).write_text(text.replace("timeout=30", "timeout=0.5"), encoding="utf-8")
    command = [sys.executable, str(tmp_path / program)]
    env = clean_environment() | mill.env
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(rf"no.* outcomes? yet; send .*again under {key}-[0-9a-f-]{{36}}.*\n", done.stderr), done.stderr
