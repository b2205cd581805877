"""Enqueues many orders with a plain Celery client in the two fast ways, and waits for their outcomes.

Needs `celery[redis]` 5.7 and two addresses, nothing of Ordermill. The orders are for the sample shop of `make up`.
"""

import json
import os
import uuid
from collections import Counter

from celery import Celery

shop = Celery("my-shop", broker=os.environ["CELERY_BROKER_URL"], backend=os.environ["REDIS_URL"])


def some_orders(count: int) -> list[dict[str, object]]:
    """So many orders of one unit."""
    lines = [{"sku": "TEA-100", "quantity": 1}]
    return [
        {"version": 1, "key": f"many-{uuid.uuid4()}", "customer": "C-1", "pool": "SAMPLE", "lines": lines}
        for _ in range(count)
    ]


# A message for each order, sent a hundred at a time: each has its own result, and is seen in Flower. Where this raises,
# some may have been sent: send all of them again under their keys.
with shop.producer_or_acquire() as producer, producer.batch():
    results = [
        shop.send_task("orders.place", args=[order], queue="orders", producer=producer, retry=False)
        for order in some_orders(50)
    ]
outcomes = [result.get(timeout=30) for result in results]

# Up to 500 orders in one message, with one result: the cheapest, for an import or an order feed.
outcomes += shop.send_task("orders.place_many", args=[some_orders(50)], queue="orders").get(timeout=30)

print(json.dumps(Counter(outcome["status"] for outcome in outcomes), indent=2))
