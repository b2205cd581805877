"""`bench/sold_out.py` still runs, and leaves what it promises: tiny here, so its figures mean nothing."""

import json
import subprocess
import sys
from pathlib import Path

from tests.workers_fixtures import clean_environment

ROOT = Path(__file__).parents[2]


def test_refusing_is_measured_beside_the_full_path(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    command = [sys.executable, "bench/sold_out.py", "--pairs", "1", "--scale", "0.01", "--json", str(file)]

    done = subprocess.run(
        command,
        cwd=ROOT,
        env=clean_environment() | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert done.returncode == 0, done.stderr
    report = json.loads(file.read_text())
    together = [f"sold_out_decide_{number}" for number in (100, 50, 10, 1)]
    assert [row["id"] for row in report["results"]] == [*together, "sold_out_sql_one_a_call", "sold_out_celery"]
    for row in report["results"]:
        assert row["ours"]["total"] > 0
        assert row["peer"]["total"] > 0
        assert row["cpu_ratio"]["min"] <= row["cpu_ratio"]["median"] <= row["cpu_ratio"]["max"]
    assert list(tmp_path.iterdir()) == [file]
