"""One child process: its log, its pid file, its readiness and its end.

A child lives in a session of its own, so that Ctrl-C in the terminal reaches only the parent, which stops its children
in order. What a killed parent left behind is found by pid file *and* by an argument on its command line; nothing else
is ended.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from workers.home_folder import ServiceError

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def wait_until(condition: Callable[[], bool], seconds: float, pause: float = 0.02) -> bool:
    """Whether the condition came true within so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait until the block is left: no child is started without being recorded, or half stopped."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    noted: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        noted.append(number)

    before = {number: signal.getsignal(number) for number in ENDING}
    try:
        for number in ENDING:
            if before[number] not in (signal.SIG_IGN, None):
                signal.signal(number, note)
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)
        if noted:
            signal.raise_signal(noted[0])


@contextlib.contextmanager
def termination_raised() -> Iterator[None]:
    """SIGTERM and a closed terminal end the block by `SystemExit`, so that what was started is stopped."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler == signal.SIG_DFL:
            signal.signal(number, leave)
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)


def _arguments(pid: int) -> list[str]:
    if sys.platform == "linux":
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="surrogateescape").split("\0")
        except OSError:
            return []
    listed = subprocess.run(
        ["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout
    return [listed.strip()] if listed.strip() else []


def carries(pid: int, mark: str) -> bool:
    """Whether a living process has this argument on its command line."""
    arguments = _arguments(pid)
    if sys.platform == "linux":
        return mark in arguments
    return any(mark in line for line in arguments)  # elsewhere `ps` gives one line, not a list


def _pids() -> list[int]:
    if sys.platform == "linux":
        return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    listed = subprocess.run(["ps", "-axo", "pid="], capture_output=True, text=True, check=False).stdout
    return [int(word) for word in listed.split()]


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except OSError:
        return None


def end_leftover(recorded: int, mark: str, gently: signal.Signals, seconds: float) -> None:
    """End what an earlier run left under this pid, and its forks, if it is still the process that carries the mark."""
    found = [pid for pid in _pids() if recorded in (pid, _group(pid)) and pid != os.getpid() and carries(pid, mark)]
    for number in (gently, signal.SIGKILL):
        for pid in found:
            if carries(pid, mark):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        if wait_until(lambda: not any(carries(pid, mark) for pid in found), seconds):
            return
    raise ServiceError(f"process {recorded} of an earlier run does not end: end it, then try again")


@dataclass
class Child:
    """A process of ours; `mark` is an argument on its command line that no other program has."""

    name: str
    command: Sequence[str]
    mark: str
    log: Path
    pid_file: Path
    env: Mapping[str, str]
    cwd: Path
    run_as: Mapping[str, int | list[int]] = field(default_factory=dict)
    gently: signal.Signals = signal.SIGTERM
    process: subprocess.Popen[bytes] | None = None

    def clean_up(self, seconds: float = 5.0) -> None:
        """End what an earlier run left behind under this name."""
        try:
            recorded = int(self.pid_file.read_text())
        except (OSError, ValueError):
            recorded = 0
        if recorded > 1:
            end_leftover(recorded, self.mark, self.gently, seconds)
        self.pid_file.unlink(missing_ok=True)

    def start(self) -> None:
        """Start it, its output in a new log; the log before it stays beside it as `.1`."""
        if self.log.exists():
            self.log.replace(self.log.with_name(f"{self.log.name}.1"))
        with signals_held(), self.log.open("ab") as log:
            try:
                self.process = subprocess.Popen(
                    list(self.command),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=dict(self.env),
                    cwd=self.cwd,
                    start_new_session=True,
                    **self.run_as,  # type: ignore[call-overload]  # user, group, extra_groups
                )
                self.pid_file.write_text(f"{self.process.pid}\n")
            except OSError as error:
                self.stop(0)
                raise ServiceError(f"cannot start {self.name}: {error}") from error

    def alive(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None

    def check(self) -> None:
        """Raise `ServiceError` with its last words if it has died."""
        if self.process is not None and self.process.poll() is not None:
            words = "\n".join(f"    {line}" for line in self.last_lines())
            raise ServiceError(
                f"{self.name} stopped by itself (exit code {self.process.returncode}); its log is {self.log}:\n{words}"
            )

    def last_lines(self, count: int = 12) -> list[str]:
        """The end of its log."""
        try:
            with self.log.open(errors="replace") as file:
                return [line.rstrip() for line in deque(file, count)]
        except OSError:
            return []

    def ask(self, number: signal.Signals | None = None) -> None:
        """Ask it to stop, without waiting."""
        if self.alive() and self.process is not None:
            self.process.send_signal(number or self.gently)

    def stop(self, seconds: float = 10.0) -> None:
        """Ask, wait so long, then kill it with its forks; harmless when it does not run."""
        if self.process is None:
            return
        self.ask()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)  # before it is reaped, so the number is still its own
            self.process.wait()
        self.process = None
        self.pid_file.unlink(missing_ok=True)
