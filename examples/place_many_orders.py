"""Enqueues many orders with a plain Celery client in the two fast ways, and waits for their outcomes.

Needs `celery[redis]` 5.7 and two addresses, nothing of Ordermill. The orders are for the sample shop of `make up`.
"""

import json
import os
import sys
import uuid
from collections import Counter

from celery import Celery
from celery.exceptions import TimeoutError

if missing := [name for name in ("CELERY_BROKER_URL", "REDIS_URL") if name not in os.environ]:
    sys.exit(f"set {' and '.join(missing)} to what `make up` prints")
shop = Celery("my-shop", broker=os.environ["CELERY_BROKER_URL"], backend=os.environ["REDIS_URL"])


feed = f"many-{uuid.uuid4()}"  # keep it with the orders: their keys are made of it
lines = [{"sku": "TEA-100", "quantity": 1}]
orders = [
    {"version": 1, "key": f"{feed}-{number}", "customer": "C-1", "pool": "SAMPLE", "lines": lines}
    for number in range(1, 101)
]
singly, together = orders[:50], orders[50:]


# A message for each order, sent a hundred at a time: each has its own result, and is seen in Flower. Where this raises,
# some may have been sent: send all of them again under their keys.
with shop.producer_or_acquire() as producer, producer.batch():
    results = [
        shop.send_task("orders.place", args=[order], queue="orders", producer=producer, retry=False) for order in singly
    ]

# Up to 500 orders in one message, with one result: the cheapest, for an import or an order feed.
result = shop.send_task("orders.place_many", args=[together], queue="orders")

try:
    outcomes = [each.get(timeout=30) for each in results] + result.get(timeout=30)
except TimeoutError:
    for each in (*results, result):
        each.forget()
    sys.exit(f"not all outcomes yet; send all of them again under {feed}-1 to {feed}-{len(orders)}")

print(json.dumps(Counter(outcome["status"] for outcome in outcomes), indent=2))
