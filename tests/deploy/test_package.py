"""The wheel as somebody has it who has no checkout: what is in it; that it migrates and works on each Python it names.

Each Python has an environment of its own, with the versions of deploy/requirements.lock. One that this machine does not
have is left out.
"""

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

from tests.shop import order
from tests.workers_fixtures import Mill, clean_environment, end, ready
from workers.child import Child
from workers.database import connect
from workers.sample import CUSTOMER, POOL, PRODUCTS

ROOT = Path(__file__).parent.parent.parent
CLAIMED = ("3.11", "3.12", "3.13")
PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"


def python(version: str) -> str | None:
    """A Python of this version: the one that runs the tests, one on the path, or one of pyenv's."""
    candidates = [sys.executable, f"python{version}", *map(str, PYENV.glob(f"{version}.*/bin/python"))]
    for candidate in candidates:
        asked = [candidate, "-c", "import sys, ensurepip; print('%d.%d' % sys.version_info[:2])"]
        try:
            if subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() == version:
                return candidate
        except OSError:
            continue
    return None


PYTHONS = {version: found for version in CLAIMED if (found := python(version))}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without a network."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=60)
    [built] = folder.glob("*.whl")
    return built


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [each for each in archive.namelist() if each.endswith(".dist-info/METADATA")]
        return Parser().parsestr(archive.read(name).decode())


def test_the_wheel_has_the_modules_and_the_sql_and_nothing_else(wheel: Path) -> None:
    wanted = {"beat_schedule.py"}
    for folder, place in (("workers", "workers"), ("tasks", "tasks"), ("sql", "workers/_sql")):
        files = (path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        wanted |= {f"{place}/{path.relative_to(ROOT / folder).as_posix()}" for path in files}
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        about = {name.partition("/")[2] for name in archive.namelist() if ".dist-info/" in name}
    assert names == wanted
    assert about == {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}


def test_the_wheel_names_only_the_pythons_on_which_it_is_run_here(wheel: Path) -> None:
    found = metadata(wheel)
    classifiers = found.get_all("Classifier") or []
    versions = [each.rpartition(" ")[2] for each in classifiers if ":: Python :: " in each]
    assert versions == list(CLAIMED)
    assert found["Requires-Python"] == ">=3.11"
    assert found["License-Expression"] == "MIT"
    assert (found["Description-Content-Type"], "# Ordermill" in str(found.get_payload())) == ("text/markdown", True)


def environment(version: str, folder: Path, wheel: Path) -> Path:
    """The programs of a new environment with the wheel in it."""
    subprocess.run([PYTHONS[version], "-m", "venv", folder], check=True, timeout=60)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
    locked = ["--require-hashes", "-r", ROOT / "deploy" / "requirements.lock"]
    for arguments in (locked, [wheel]):
        done = subprocess.run([*pip, *arguments], capture_output=True, text=True, check=False, timeout=180)
        assert done.returncode == 0, done.stderr
    return folder / "bin"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("version", PYTHONS)
def test_an_installed_wheel_migrates_and_its_worker_places_orders(
    version: str, wheel: Path, tmp_path: Path, fresh_mill: Mill, new_database: Callable[[bool], str]
) -> None:
    mill = fresh_mill
    programs = environment(version, tmp_path / "env", wheel)
    env = clean_environment() | mill.env | {"DATABASE_URL": new_database(False)}

    def ran(*command: str) -> str:
        line = [programs / command[0], *command[1:]]
        done = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    ran("python", "-m", "pip", "check")
    assert str(tmp_path) in ran("python", "-c", "import workers.migrate as m; print(m.SQL)")
    assert "empty to 00" in ran("ordermill", "migrate")
    ran("ordermill", "sample")
    worker = Child(
        name=f"orders-{version}",
        command=[
            str(programs / "ordermill"),
            "worker",
            "-Q",
            "orders",
            "-P",
            "solo",
            "-n",
            "package@test",
            "-l",
            "INFO",
        ],
        mark="package@test",
        log=tmp_path / "worker.log",
        pid_file=tmp_path / "worker.pid",
        env=env,
        cwd=tmp_path,
    )
    worker.start()
    mill.children.append(worker)
    ready(worker)
    result = mill.call("orders.place", order(None, (PRODUCTS[0][0], 1)) | {"customer": CUSTOMER, "pool": POOL})
    assert result["status"] == "placed"
    with connect(env["DATABASE_URL"]) as session:
        assert session.execute("SELECT count(*) FROM api.orders").fetchone() == (1,)
    assert "clean" in ran("ordermill", "verify")
    assert end(worker) == 0
