"""Which work gives which rows. A module of rows decorates its functions; `bench/__main__.py` imports the modules."""

from collections.abc import Callable

from bench.harness import Run
from bench.targets import TARGETS

Work = Callable[[Run], None]
WORK: dict[str, Work] = {}


def row(*ids: str) -> Callable[[Work], Work]:
    """The function measures and saves these rows."""
    unknown = set(ids) - set(TARGETS)
    if unknown:
        raise ValueError(f"no target for {', '.join(sorted(unknown))}: add it to bench/targets.py")

    def note(work: Work) -> Work:
        for identity in ids:
            WORK[identity] = work
        return work

    return note
