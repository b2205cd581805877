"""The names of Celery's queues, for whoever declares, consumes, shows or empties them. It imports nothing."""

GENERAL = ("inventory", "views", "alerts", "cache", "events", "maintenance")
QUEUES = ("orders", *GENERAL)
# A foreign send_task without a queue waits in `celery`, so a general worker consumes that too.
FOREIGN_QUEUE = "celery"
GENERAL_QUEUES = (*GENERAL, FOREIGN_QUEUE)
ALL_QUEUES = (*QUEUES, FOREIGN_QUEUE)
