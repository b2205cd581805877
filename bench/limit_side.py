"""The limit of placing: a bare loop of `api.place_orders(50)`, without a door, a queue, a worker or an answer sent."""

import json
import secrets
from dataclasses import dataclass
from typing import Any

from bench.block import Block
from bench.sides import Side
from tasks.payloads import OrderRequest

BATCH, PATIENCE = 50, 120


@dataclass(frozen=True)
class LimitSide(Side):
    """So many connections, each in a process of its own."""

    connections: int = 2

    @property
    def setting(self) -> str:
        """Connections, orders a call."""
        return f"{self.connections} connections, {BATCH} orders a call"

    def start(self, block: Block) -> None:
        """Starts the processes."""
        block.held["names"] = [f"limit-{secrets.token_hex(4)}" for _ in range(self.connections)]
        for name in block.held["names"]:
            # The address is in the environment of the process alone: others can read its command line.
            block.child("producer", "limit", name, "bench.peers.limit", name)

    def prepare(self, block: Block, orders: list[dict[str, Any]]) -> None:
        """Gives each process its share of batches."""
        typed = [OrderRequest.model_validate(order).typed("") for order in orders]
        batches = [json.dumps(typed[at : at + BATCH]) for at in range(0, len(typed), BATCH)]
        for number, name in enumerate(block.held["names"]):
            file = block.rig.home / f"{name}.json"
            file.write_text("\n".join(batches[number :: self.connections]))
            block.rig.redis.rpush(f"{name}:file", str(file))
        self._all_say(block, "read")
        block.held["prepared"] = True

    def submit(self, block: Block, orders: list[dict[str, Any]]) -> None:
        """Has them placed."""
        if not block.held.pop("prepared", False):
            self.prepare(block, orders)  # the warm-up
        for name in block.held["names"]:
            block.rig.redis.rpush(f"{name}:go", "go")
        self._all_say(block, "placed")

    def _all_say(self, block: Block, word: str) -> None:
        for name in block.held["names"]:
            said: Any = block.rig.redis.blpop([f"{name}:said"], PATIENCE)
            if not said or said[1].decode() != word:
                block.check_children()
                raise RuntimeError(f"{self.name}: {name} does not say {word!r} but {said}")


LIMIT = LimitSide("a bare loop of place_orders")
