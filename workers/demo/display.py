"""What the demo shows while it works: its steps, then the orders live, or plain lines where there is no terminal."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from workers.demo.tally import Tally

LIVE_SECONDS = 0.2
PLAIN_SECONDS = 5.0
# What a demo can meet; any other code stands alone, and the summary has its sentence.
NAMES = {"OM001": "for insufficient stock"}


class Step:
    """A step under way; `say` sets what its line tells when it is done."""

    def __init__(self) -> None:
        self.text = ""

    def say(self, text: str) -> None:
        """Tell what was done."""
        self.text = text


class Steps:
    """Prints one line a step when it is done, and turns a spinner meanwhile on a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status = console.status("")

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """One step; its line gives the seconds it took."""
        step, start = Step(), time.monotonic()
        self.progress(name)
        self._status.start()
        try:
            yield step
        finally:
            self._status.stop()
        line = Table.grid(expand=True, padding=(0, 1))
        line.add_column(width=1)
        line.add_column(width=10)
        line.add_column(ratio=1)
        line.add_column(width=7, justify="right")
        took = Text(f"{time.monotonic() - start:.1f} s", style="dim")
        line.add_row(Text("✓", style="green"), Text(name, style="bold"), step.text, took)
        self._console.print(line)

    def progress(self, text: str) -> None:
        """Show what is being done just now; only on a terminal."""
        self._status.update(Text(f"{text} …"))


class OrdersDisplay:
    """The live panel of the orders; `refresh` may be called as often as one likes."""

    def __init__(self, console: Console, tally: Tally) -> None:
        self._console = console
        self._tally = tally
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._every = LIVE_SECONDS if self._live else PLAIN_SECONDS
        self._next = 0.0
        self._start = time.monotonic()

    def __enter__(self) -> "OrdersDisplay":
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._next = 0.0
        self.refresh()
        if self._live:
            self._live.stop()

    def refresh(self) -> None:
        """Show the tally if it is time to."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + self._every
        if self._live:
            self._live.update(panel(self._tally, now - self._start), refresh=True)
        else:
            self._console.print(plain_line(self._tally), highlight=False, soft_wrap=True)


def panel(tally: Tally, elapsed: float) -> Panel:
    """The numbers of the moment, as wide as the terminal."""
    pace = tally.pace()
    left = clock((tally.total - tally.decided) / pace) if pace > 0 else "-:--"
    bar = Table.grid(expand=True, padding=(0, 1))
    bar.add_column(ratio=1)
    bar.add_column(justify="right")
    bar.add_row(
        ProgressBar(total=tally.total, completed=tally.decided, complete_style="cyan", finished_style="green"),
        f"{tally.decided:,} of {tally.total:,}  {clock(elapsed)}, left {left}",
    )
    grid = Table.grid(expand=True, padding=(0, 2))
    for _ in range(4):
        grid.add_column(ratio=1)
    grid.add_row(
        fact("submitted", f"{tally.submitted:,}"),
        fact("placed", f"{tally.placed:,}", "green"),
        fact("rejected", f"{tally.rejected.total():,}", "yellow"),
        fact("sent twice", f"{tally.duplicates:,}"),
    )
    grid.add_row(
        fact("orders/s", f"{pace:,.0f}", "cyan"),
        fact("p50", f"{tally.percentile(0.5, recent=True):,.0f} ms"),
        fact("p99", f"{tally.percentile(0.99, recent=True):,.0f} ms"),
        fact("dead", f"{tally.dead:,}", "red" if tally.dead else ""),
    )
    grid.add_row(
        fact("in flight", f"{len(tally.in_flight):,}"),
        fact("Redis queue", f"{tally.redis_depth:,}"),
        fact("SQL queue", f"{tally.sql_depth:,}"),
        "",
    )
    return Panel(Group(bar, "", grid, "", Text(reasons(tally), style="yellow")), title="orders", border_style="dim")


def plain_line(tally: Tally) -> str:
    """The same numbers in one line of text, for a log."""
    return (
        f"  {tally.decided:,} of {tally.total:,} decided: {tally.placed:,} placed, {reasons(tally)}, "
        f"{tally.dead:,} dead, {tally.duplicates:,} sent twice; {tally.pace():,.0f} orders/s, "
        f"p50 {tally.percentile(0.5, recent=True):,.0f} ms, p99 {tally.percentile(0.99, recent=True):,.0f} ms; "
        f"in flight {len(tally.in_flight):,}, queues: Redis {tally.redis_depth:,}, SQL {tally.sql_depth:,}"
    )


def reasons(tally: Tally) -> str:
    """The rejections so far, by code."""
    counts = ", ".join(f"{count:,} {NAMES.get(code, '')} ({code})" for code, count in tally.rejected.most_common())
    return f"rejected {counts}" if counts else "none rejected"


def fact(name: str, value: str, style: str = "") -> Text:
    """A name and its number."""
    return Text.assemble((f"{name} ", "dim"), (value, f"bold {style}".strip()))


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
