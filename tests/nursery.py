"""Orders workers by the dozen, for tests that kill them: each is forked from one process that has imported everything.

A start from nothing costs seconds of CPU, a fork a fraction of one. From the fork on it is the same `celery worker`,
with connections of its own: nothing is open before.
"""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from tests.workers_fixtures import QUIET, READY_SECONDS, Mill, clean_environment
from workers.child import wait_until


class Seedling:
    """A forked worker; its parent, the nursery, reaps it."""

    def __init__(self, pid: int, log: Path) -> None:
        self.pid = pid
        self.log = log

    def alive(self) -> bool:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def ready(self) -> "Seedling":
        def said() -> bool:
            words = self.log.read_text(errors="replace")
            assert self.alive(), f"the worker died at its start:\n{words[-3000:]}"
            return " ready." in words

        assert wait_until(said, READY_SECONDS), f"not ready:\n{self.log.read_text(errors='replace')[-3000:]}"
        return self

    def freeze(self) -> None:
        """SIGSTOP, and the kernel has done it."""
        os.kill(self.pid, signal.SIGSTOP)
        assert wait_until(lambda: state(self.pid).startswith("T"), 10, 0.001)

    def thaw(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def ask(self) -> None:
        """SIGTERM: a warm stop, not waited for."""
        os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL; gone when this returns."""
        os.kill(self.pid, signal.SIGKILL)
        assert wait_until(lambda: not self.alive(), 10, 0.001)


def state(pid: int) -> str:
    """What `ps` calls the process's state: T is stopped."""
    return subprocess.run(["ps", "-o", "state=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout


class Nursery:
    """The process that forks workers of this mill, for the length of a `with` block; none of them outlives it."""

    def __init__(self, mill: Mill, app: str = "workers.app", **env: str) -> None:
        self.folder = mill.folder
        self.workers: list[Seedling] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.nursery", app],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=clean_environment() | mill.env | env,
            cwd=mill.folder,
            text=True,
        )

    def begin(self, *options: str, queues: str = "orders") -> Seedling:
        """A new solo worker; it is not ready yet."""
        name = f"orders-{secrets.token_hex(3)}"
        log = self.folder / f"{name}.log"
        log.touch()
        arguments = ["worker", "-Q", queues, "-P", "solo", "-n", f"{name}@test", *QUIET, *options]
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps({"log": str(log), "arguments": arguments}), file=self.process.stdin, flush=True)
        self.workers.append(Seedling(int(self.process.stdout.readline()), log))
        return self.workers[-1]

    def living(self) -> list[Seedling]:
        return [worker for worker in self.workers if worker.alive()]

    def __enter__(self) -> "Nursery":
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()


# The process itself


def main(app: str) -> None:
    """Forks a worker for each line it reads, and kills them all when there are no more."""
    sys.path.insert(0, os.getcwd())
    prepare(app)
    children: set[int] = set()

    def reap(_number: int, _frame: FrameType | None) -> None:
        for pid in list(children):
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(pid, os.WNOHANG)[0]:
                    children.discard(pid)

    signal.signal(signal.SIGCHLD, reap)
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            become_worker(app, json.loads(line))
        children.add(pid)
        print(pid, flush=True)
    for pid in list(children):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def prepare(app: str) -> None:
    """Imports what a worker imports; opens no connection."""
    import importlib

    for name in (
        *(app, "celery.bin.celery", "celery.bin.worker", "celery.apps.worker", "celery.worker.consumer"),
        *("celery.worker.autoscale", "celery.concurrency.solo", "celery.backends.redis", "kombu.transport.redis"),
        *("celery.events.state", "celery.worker.control", "celery.worker.strategy", "sqlalchemy.dialects.postgresql"),
    ):
        importlib.import_module(name)
    application: Any = importlib.import_module(app).app
    application.loader.import_default_modules()
    application.finalize()


def become_worker(app: str, asked: dict[str, Any]) -> None:
    """In the fork: `celery -A app worker …`, its output in its log, and never back to the loop."""
    status = 1
    try:
        os.setsid()
        with open(os.devnull) as nothing, open(asked["log"], "ab") as log:
            os.dup2(nothing.fileno(), 0)
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        sys.argv = ["celery", "-A", app, *asked["arguments"]]
        from celery.__main__ import main as celery

        celery()
        status = 0
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main(sys.argv[1])
