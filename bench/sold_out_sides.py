"""An order for a sold-out sku: refused at the door (ORDERMILL_REFUSE_SOLD_OUT=on), and rejected by the full path.

`Decided` is what a worker does once its messages are decoded, in this process, so many orders at a time. `Door` is the
whole Celery door, with Redis, events and results.
"""

import os
import random
import time
from dataclasses import dataclass
from typing import Any

from bench.block import Block, Disturbed
from bench.celery_sides import CelerySide
from bench.mixes import THREE_LINES, Connection, Mix
from bench.sides import Side
from workers.database import forget
from workers.settings import get_settings
from workers.sold_out import AGAIN_SECONDS

HOT = 20
SELL_OUT = """SELECT shop.apply_movements(array_agg(ROW(variant_id, location_id, 'available', NULL, 'adjustment',
    available, 'bench', NULL, NULL, NULL)::shop.stock_move)) FROM shop.stock_levels WHERE variant_id <= %s"""
REJECTED = "SELECT count(*) FROM shop.request_keys WHERE status = 'rejected'"


def _load(connection: Connection) -> None:
    THREE_LINES.load(connection)
    connection.execute(SELL_OUT, [HOT])


def _requests(count: int, prefix: str) -> list[dict[str, Any]]:
    hot, orders = random.Random(11), THREE_LINES.requests(count, prefix)  # noqa: S311
    for order in orders:
        order["lines"][0]["sku"] = f"S{hot.randint(1, HOT)}"
    return orders


SOLD_OUT = Mix("3 lines, one of them sold out", _load, _requests)


def rejected(block: Block) -> int:
    """How many rejections are stored."""
    row = block.db.execute(REJECTED).fetchone()
    return int(row[0]) if row else 0


def learn(block: Block, side: "Decided | Door") -> None:
    """Sends orders until the worker has learned from rejections all that is sold out; raises RuntimeError."""
    for number in range(10):
        before = rejected(block)
        orders = block.mix.requests(200, f"v{number}-")
        side.submit(block, orders)
        side.wait(block, len(orders))
        if rejected(block) == before:
            return
        time.sleep(AGAIN_SECONDS + 0.1)  # what was rejected since the last look is known at the next
    raise RuntimeError("the worker goes on rejecting what it should refuse")


def check(block: Block, refuses: bool) -> None:
    """Raises unless each order was refused, or rejected, and the shop verifies: since the warm-up."""
    stored, sent = rejected(block) - block.held["rejected"], block.held["measured"]
    found = block.db.execute("SELECT * FROM api.verify()").fetchall()
    if stored != (0 if refuses else sent) or found:
        # A batch is rejected where the machine stands still until what was known is too old to be believed.
        error = Disturbed if refuses and stored < sent and not found else RuntimeError
        raise error(f"{block.side.name}: of {sent} orders {stored} were rejected; verify: {found}")


@dataclass(frozen=True)
class Decided(Side):
    """What a worker does with decoded orders, `together` at a time, in this process: its CPU is the producer's."""

    together: int = 50
    refuses: bool = False

    @property
    def setting(self) -> str:
        """How many come together."""
        return f"{self.together} together"

    def start(self, block: Block) -> None:
        """Has this process work on the block's shop, as a worker would."""
        os.environ |= {"DATABASE_URL": block.url, "ORDERMILL_REFUSE_SOLD_OUT": "on" if self.refuses else "off"}
        forget()
        get_settings.cache_clear()

    def prepare(self, block: Block, orders: list[dict[str, Any]]) -> None:
        """Has it learn what is sold out; then checks and types these, as the door does before it decides."""
        if self.refuses:
            learn(block, self)
        block.held |= {"typed": self.typed(orders), "measured": len(orders), "rejected": rejected(block)}

    @staticmethod
    def typed(orders: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """As the door has them before it decides."""
        from tasks.payloads import OrderRequest  # noqa: PLC0415  # it reads the settings

        return [OrderRequest.model_validate(order).typed("") for order in orders]

    def submit(self, block: Block, orders: list[dict[str, Any]]) -> None:
        """Has them decided."""
        from tasks.orders import place_all  # noqa: PLC0415  # it reads the settings

        typed = block.held.pop("typed", None) or self.typed(orders)
        for at in range(0, len(typed), self.together):
            place_all(typed[at : at + self.together])

    def wait(self, block: Block, _orders: int) -> float:
        """There is nothing to wait for."""
        return block.now()

    def check(self, block: Block) -> None:
        """Each was refused, or rejected, as it should."""
        check(block, self.refuses)

    def stop(self, block: Block) -> None:
        """Leaves the block's shop."""
        from tasks import orders  # noqa: PLC0415
        from workers.database import engine  # noqa: PLC0415
        from workers.sold_out import SoldOut  # noqa: PLC0415

        engine().dispose()
        orders.known = SoldOut()
        forget()


@dataclass(frozen=True)
class Door(CelerySide):
    """The whole Celery door."""

    refuses: bool = False

    def prepare(self, block: Block, orders: list[dict[str, Any]]) -> None:
        """Has it learn what is sold out."""
        if self.refuses:
            learn(block, self)
        block.held |= {"measured": len(orders), "rejected": rejected(block)}

    def check(self, block: Block) -> None:
        """Each was refused, or rejected, as it should, and had its events."""
        check(block, self.refuses)
        self.check_events(block)
