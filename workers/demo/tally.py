"""What happened to each submitted key, counted as outcomes come in. Only numbers; `display` and `report` show them."""

import time
from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import datetime

RECENT = 2_000


@dataclass(slots=True)
class InFlight:
    """A key that was submitted and has no outcome yet."""

    door: str
    submitted_at: float


@dataclass
class Tally:
    """Counts of one run.

    Times are seconds of the database's clock; a latency runs from a key's first submission to its decision.
    """

    total: int
    submitted: int = 0
    placed: int = 0
    dead: int = 0
    duplicates: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    by_door: Counter[str] = field(default_factory=Counter)
    in_flight: dict[str, InFlight] = field(default_factory=dict)
    redis_depth: int = 0
    sql_depth: int = 0
    first_submit: float | None = None
    last_outcome: float | None = None
    latencies: list[float] = field(default_factory=list)
    _recent: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=400))

    @property
    def decided(self) -> int:
        """Keys that have an outcome."""
        return self.submitted - len(self.in_flight)

    @property
    def seconds(self) -> float:
        """From the first submission to the last outcome."""
        if self.first_submit is None or self.last_outcome is None:
            return 0.0
        return max(0.0, self.last_outcome - self.first_submit)

    def waiting(self, door: str) -> int:
        """Keys in flight that were submitted through this door."""
        return sum(1 for entry in self.in_flight.values() if entry.door == door)

    def sent(self, door: str, keys: list[str], at: float) -> None:
        """Record the first submission of these keys."""
        if self.first_submit is None:
            self.first_submit = at
        self.submitted += len(keys)
        self.by_door[door] += len(keys)
        self.in_flight.update((key, InFlight(door, at)) for key in keys)

    def outcome(self, key: str, status: str, code: str | None, decided_at: datetime) -> None:
        """Record the outcome of a key in flight."""
        entry = self.in_flight.pop(key)
        at = decided_at.timestamp()
        self.last_outcome = max(at, self.last_outcome or at)
        self.latencies.append(max(0.0, at - entry.submitted_at))
        if status == "placed":
            self.placed += 1
        elif status == "rejected":
            self.rejected[code or "without a code"] += 1
        else:
            self.dead += 1

    def pace(self) -> float:
        """Outcomes a second over the last few seconds; call it at each refresh."""
        now = time.monotonic()
        self._recent.append((now, self.decided))
        while len(self._recent) > 2 and now - self._recent[0][0] > 5:
            self._recent.popleft()
        (before, then), (after, current) = self._recent[0], self._recent[-1]
        return (current - then) / (after - before) if after > before else 0.0

    def percentile(self, share: float, *, recent: bool = False) -> float:
        """Milliseconds within which this share of keys was decided; 0 before the first."""
        values = sorted(self.latencies[-RECENT:] if recent else self.latencies)
        return 1000 * values[min(len(values) - 1, int(share * len(values)))] if values else 0.0
