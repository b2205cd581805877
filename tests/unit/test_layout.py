"""The layout that the design fixes: who imports whom, who may speak SQL, and that no job is left without a worker."""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Task

import beat_schedule
import tasks.payloads
from tests.documents import DOCUMENTS
from tests.programs import syntax_tree
from workers.app import app
from workers.base_task import CommandTask, JobTask, ReadTask
from workers.queue_names import ALL_QUEUES, FOREIGN_QUEUE, GENERAL_QUEUES

ROOT = Path(beat_schedule.__file__).parent
TASK_MODULES = sorted((ROOT / "tasks").glob("*.py"))
each_module = pytest.mark.parametrize("module", TASK_MODULES, ids=lambda path: path.name)


@pytest.fixture(scope="module")
def registered() -> dict[str, Task]:
    app.loader.import_default_modules()
    return {name: task for name, task in app.tasks.items() if not name.startswith("celery.")}


SOURCES = sorted(
    path
    for folder in ("workers", "tasks", "tests", "bench", "docs", "examples", "sql", ".ci")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".py", ".sql"} and "node_modules" not in path.parts
)


def test_no_file_has_more_than_400_lines_and_no_function_more_than_60() -> None:
    assert len(SOURCES) > 400
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= 400, path
        for node in ast.walk(syntax_tree(path)) if path.suffix == ".py" else ():
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 60, f"{path}: {node.name}"


def test_no_document_that_people_write_has_more_than_400_lines() -> None:
    generated = {"schema.md", "tasks.md"}
    assert {path.name for path in DOCUMENTS if path.read_text(encoding="utf-8").count("\n") > 400} <= generated


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(syntax_tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]


def test_the_timetable_imports_neither_tasks_nor_workers() -> None:
    assert not {"tasks", "workers"} & set(imported(ROOT / "beat_schedule.py"))


def test_workers_never_import_tasks() -> None:
    for path in (ROOT / "workers").rglob("*.py"):
        assert "tasks" not in set(imported(path)), path


@each_module
def test_tasks_reach_the_database_only_through_routines_of_api(module: Path) -> None:
    for node in ast.walk(syntax_tree(module)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            words = node.value.upper().split()
            assert "shop." not in node.value
            assert not (words and words[0] in {"SELECT", "INSERT", "UPDATE", "DELETE", "CALL", "TRUNCATE"})
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"call", "call_one"}:
            assert isinstance(node.args[0], ast.Constant)
            assert str(node.args[0].value).startswith("api.")
        assert not (isinstance(node, ast.Attribute) and node.attr in {"execute", "exec_driver_sql"})


@each_module
def test_tasks_are_thin(module: Path) -> None:
    for node in ast.walk(syntax_tree(module)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 30, node.name


def test_every_job_of_the_timetable_exists_and_its_queue_is_consumed(registered: dict[str, Task]) -> None:
    for name, entry in beat_schedule.BEAT_SCHEDULE.items():
        assert entry["task"] in registered, name
        assert entry["options"]["queue"] in GENERAL_QUEUES, name
        assert entry["options"]["expires"], name


def test_every_job_with_slots_gets_its_cadence(registered: dict[str, Task]) -> None:
    for entry in beat_schedule.BEAT_SCHEDULE.values():
        takes = inspect.signature(registered[entry["task"]].run).parameters
        assert ("cadence" in takes) == ("kwargs" in entry)


def test_a_job_ticks_at_least_each_five_minutes_so_that_a_failed_run_is_tried_again_soon() -> None:
    for name, entry in beat_schedule.BEAT_SCHEDULE.items():
        cadence = entry.get("kwargs", {}).get("cadence", entry["schedule"])
        assert entry["schedule"] == min(cadence, 300.0), name
        assert entry["options"]["expires"] == entry["schedule"], name


def test_every_queue_is_consumed_and_every_task_has_one(registered: dict[str, Task]) -> None:
    consumed = {"orders", *GENERAL_QUEUES}
    assert consumed == {*ALL_QUEUES}
    for name in registered:
        assert app.amqp.router.route({}, name)["queue"].name in consumed - {FOREIGN_QUEUE}, name


def test_every_task_is_of_a_kind_and_says_what_it_takes(registered: dict[str, Task]) -> None:
    assert registered
    for name, task in registered.items():
        assert isinstance(task, CommandTask | JobTask | ReadTask), name
        assert task.__doc__, name
        if isinstance(task, JobTask):
            assert set(inspect.signature(task.run).parameters) <= {"cadence", "seconds"}, name
            assert task.ignore_result, name
            continue
        assert not task.ignore_result, name
        assert task.acks_late == bool(task.reject_on_worker_lost) == isinstance(task, CommandTask), name
        words = {word.strip("`,.:;") for word in (inspect.getdoc(type(task)) or task.__doc__ or "").split()}
        models = {word for word in words if word.endswith("Request")}
        assert all(hasattr(tasks.payloads, model) for model in models), name
        assert models or "orders" in words, name
