"""Stock commands: each wraps one keyed routine. Goods in, counts corrected, stock moved; see docs/tasks.md."""

from typing import Any

from tasks.commands import run_command
from tasks.payloads import AdjustRequest, ReceiveRequest, TransferRequest
from workers.app import app
from workers.base_task import CommandTask, payload_of
from workers.database import Jsonb, call_one


@app.task(name="inventory.adjust", base=CommandTask, bind=True)
def adjust(self: CommandTask, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Corrects a count: takes an AdjustRequest, gives its outcome: done or rejected."""
    return run_command(
        AdjustRequest,
        payload_of(args, kwargs),
        self.request.id,
        "inventory.adjust",
        lambda key, asked: call_one(
            "api.adjust_inventory", key, asked.sku, asked.location, asked.quantity, asked.reason, asked.account
        ),
    )


@app.task(name="inventory.receive", base=CommandTask, bind=True)
def receive(self: CommandTask, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Books goods in: takes a ReceiveRequest, gives its outcome: done or rejected."""
    return run_command(
        ReceiveRequest,
        payload_of(args, kwargs),
        self.request.id,
        "inventory.receive",
        lambda key, asked: call_one(
            "api.receive_stock",
            key,
            asked.location,
            Jsonb([line.model_dump() for line in asked.lines]),
            asked.origin,
            asked.target,
        ),
    )


@app.task(name="inventory.transfer", base=CommandTask, bind=True)
def transfer(self: CommandTask, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Moves stock between locations: takes a TransferRequest, gives its outcome: done or rejected."""
    return run_command(
        TransferRequest,
        payload_of(args, kwargs),
        self.request.id,
        "inventory.transfer",
        lambda key, asked: call_one(
            "api.transfer_stock", key, asked.sku, asked.origin, asked.target, asked.quantity, asked.in_transit
        ),
    )
