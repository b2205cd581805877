"""Submits an order in the transaction that closes the application's own cart: both are committed, or neither is.

Needs `psycopg` and a login that is a member of ordermill_app. The order is for the sample shop of `make up`.
"""

import json
import os
import sys
import time
import uuid

import psycopg

if "DATABASE_URL" not in os.environ:
    sys.exit("set DATABASE_URL to what `make up` prints")
key = f"cart-{uuid.uuid4()}"
order = {
    "version": 1,
    "key": key,
    "customer": "C-1",
    "pool": "SAMPLE",
    "lines": [{"sku": "CUP-1", "quantity": 4}, {"sku": "POT-1", "quantity": 1}],
}
with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as database:
    database.execute("CREATE TABLE IF NOT EXISTS carts (key text PRIMARY KEY, bought_at timestamptz)")

    with database.transaction():
        database.execute("INSERT INTO carts (key, bought_at) VALUES (%s, now())", [key])
        [outcome] = database.execute("SELECT api.submit_order(%s)", [json.dumps(order)]).fetchone()
        if outcome["status"] == "refused":  # only where the pool has a limit: nothing is stored, send it again later
            raise psycopg.Rollback

    deadline = time.monotonic() + 30
    while outcome["status"] == "accepted" and time.monotonic() < deadline:  # waits for a drain, often milliseconds
        time.sleep(0.02)
        [outcome] = database.execute("SELECT api.order_outcome(%s)", [key]).fetchone()
print(json.dumps(outcome, indent=2))
