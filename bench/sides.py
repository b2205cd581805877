"""What a side of a comparison is: how its processes start, and how orders are handed to it.

Each side is given the same orders, as an application sends them (`bench.mixes`), on a fresh copy of the same shop, and
leaves them decided in it: `shop.request_keys` has their answers, and `api.verify` finds nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from bench.block import Block


@dataclass(frozen=True)
class Side(ABC):
    """One way to get orders placed. `name` says which; the fields are what is tuned."""

    name: str

    @property
    @abstractmethod
    def setting(self) -> str:
        """How it is set, in words, for the results."""

    def tuned(self, **changes: Any) -> Self:
        """The same side, set otherwise."""
        return replace(self, **changes)

    @abstractmethod
    def start(self, block: Block) -> None:
        """Starts its processes by `block.child` and waits until they are ready to take orders."""

    def prepare(self, block: Block, orders: list[dict[str, Any]]) -> None:
        """What is to be ready before the clock starts, such as messages published where no worker looks."""
        return

    @abstractmethod
    def submit(self, block: Block, orders: list[dict[str, Any]]) -> None:
        """Hands these orders over, as an application would; returns when the last was handed over.

        Its CPU counts as the producer's: this process, the processes that it starts and waits for, and
        `block.child("producer", …)`.
        """

    def wait(self, block: Block, orders: int) -> float:
        """Waits until so many more orders than when it was called are decided; gives that moment."""
        return block.wait_decided()

    def check(self, block: Block) -> None:
        """Raises unless what was sent since the start was done, and the shop verifies."""
        block.check_shop()

    def stop(self, block: Block) -> None:
        """Closes what it opened in this process; the block ends the processes."""
        return
