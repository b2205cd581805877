"""Stock Celery in the same rig: the plain task of `bench/peers/celery_app.py`, on Celery's own transport.

What a killed worker had comes back after some six seconds, not after Celery's hour and more, so that what is only late
does not count as lost. With STORM_ACKS=early messages are acknowledged before they are run, as is Celery's default.
"""

import os

from bench.peers.celery_app import app

app.conf.update(
    broker_transport_options={
        "visibility_timeout": 5,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
    },
    task_acks_late=os.environ.get("STORM_ACKS") != "early",
    task_default_queue="orders",
)
for task in app.tasks.values():
    task.acks_late = app.conf.task_acks_late
