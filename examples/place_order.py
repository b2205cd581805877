"""Enqueues an order with a plain Celery client, by the task's name, and waits for its outcome.

Needs `celery[redis]` and two addresses, nothing of Ordermill. The order is for the sample shop of `make up`.
"""

import json
import os
import uuid

from celery import Celery

shop = Celery("my-shop", broker=os.environ["CELERY_BROKER_URL"], backend=os.environ["REDIS_URL"])

order = {
    "version": 1,
    "key": f"web-{uuid.uuid4()}",  # keep it with the cart: after a timeout, send the same order again under it
    "customer": "C-1",
    "pool": "SAMPLE",
    "lines": [{"sku": "TEA-100", "quantity": 2}],
}
outcome = shop.send_task("orders.place", args=[order], queue="orders").get(timeout=30)
print(json.dumps(outcome, indent=2))  # "status": "placed" with its order_id, or "rejected" with a code
