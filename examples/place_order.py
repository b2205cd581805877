"""Enqueues an order with a plain Celery client, by the task's name, and waits for its outcome.

Needs `celery[redis]` and two addresses, nothing of Ordermill. The order is for the sample shop of `make up`.
"""

import json
import os
import sys
import uuid

from celery import Celery
from celery.exceptions import TimeoutError

shop = Celery("my-shop", broker=os.environ["CELERY_BROKER_URL"], backend=os.environ["REDIS_URL"])

order = {
    "version": 1,
    "key": f"web-{uuid.uuid4()}",  # keep it with the cart: after a timeout, send the same order again under it
    "customer": "C-1",
    "pool": "SAMPLE",
    "lines": [{"sku": "TEA-100", "quantity": 2}],
}
result = shop.send_task("orders.place", args=[order], queue="orders")
try:
    outcome = result.get(timeout=30)
except TimeoutError:
    result.forget()
    sys.exit(f"no outcome yet; send it again under {order['key']}")
print(json.dumps(outcome, indent=2))  # "status": "placed" with its order_id, or "rejected" with a code
