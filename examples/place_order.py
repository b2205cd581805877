"""Enqueues an order with a plain Celery client, by the task's name, and waits for its outcome.

Needs `celery[redis]` and two addresses, nothing of Ordermill. The order is for the sample shop of `make up`.
"""

import json
import os
import sys
import uuid

from celery import Celery
from celery.exceptions import TimeoutError
from kombu.exceptions import OperationalError

if missing := [name for name in ("CELERY_BROKER_URL", "REDIS_URL") if name not in os.environ]:
    sys.exit(f"set {' and '.join(missing)} to what `make up` prints")
shop = Celery("my-shop", broker=os.environ["CELERY_BROKER_URL"], backend=os.environ["REDIS_URL"])

order = {
    "version": 1,
    "key": f"web-{uuid.uuid4()}",  # keep it with the cart: after a timeout, send the same order again under it
    "customer": "C-1",
    "pool": "SAMPLE",
    "lines": [{"sku": "TEA-100", "quantity": 2}],
}
try:
    result = shop.send_task("orders.place", args=[order], queue="orders")
    outcome = result.get(timeout=30)
except TimeoutError:
    result.forget()
    sys.exit(f"no outcome yet; send it again under {order['key']}")
except (OperationalError, RuntimeError) as error:  # Redis is away: the order may have been sent, or not
    sys.exit(f"no outcome yet; send it again under {order['key']}: {error}")
print(json.dumps(outcome, indent=2))  # "status": "placed" with its order_id, or "rejected" with a code
