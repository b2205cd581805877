"""Ordermill's side of `sold_out.py`: the application of `door_app.py`, told to refuse what is sold out.

celery -A bench.refusing_app worker -Q orders -P solo
"""

import os

# A block passes on no setting but its own, and the batch transport only to `bench.door_app`.
os.environ |= {"ORDERMILL_REFUSE_SOLD_OUT": "on", "ORDERMILL_ORDERS_TRANSPORT": "batch"}

from bench.door_app import app  # it reads the settings

__all__ = ["app"]
