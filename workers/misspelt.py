"""Names that look like one of ours and are none: settings, which change nothing, and queues, which nobody serves."""

import difflib
import sys
from collections.abc import Iterable, Mapping

PREFIX = "ORDERMILL_"
ALIKE = 0.8  # of 1, a setting without its prefix: DRAINZ and DRAINS are 0.83, FLOWER and FLOWER_PORT 0.71


def meant(name: str, known: Iterable[str]) -> str | None:
    """Which of the known names this one resembles; None where it resembles none, and may be another's."""
    return next(iter(difflib.get_close_matches(name, list(known), 1, ALIKE)), None)


def misspelt(environment: Mapping[str, str], settings: Iterable[str]) -> dict[str, str]:
    """Each variable that is no setting, with the one that it resembles; what resembles none may be another's."""
    known = [name.upper() for name in settings]
    given = (name.removeprefix(PREFIX) for name in environment if name.startswith(PREFIX))
    found = {name: meant(name, known) for name in given if name not in known}
    return {PREFIX + name: PREFIX + near for name, near in found.items() if near}


def tell(environment: Mapping[str, str], settings: Iterable[str]) -> None:
    """One line each, where a person sees it."""
    for name, meant in misspelt(environment, settings).items():
        print(f"ordermill: {name} is no setting and changes nothing: is {meant} meant?", file=sys.stderr, flush=True)
