"""Rows of what is sold out: refused at the door, against the full path."""

from bench.harness import Run
from bench.rows.registry import row
from bench.sold_out_sides import SOLD_OUT, Decided, Door

DECIDED, ALONE, MESSAGES = 30_000, 4_000, 4_000


@row("sold_out", "sold_out_alone", "sold_out_celery")
def sold_out(run: Run) -> None:
    """From decoded orders to outcomes, fifty together and one alone; and the whole door."""
    refused, full = Decided("refused", refuses=True), Decided("full path")
    run.compare("sold_out", refused, full, DECIDED, SOLD_OUT)
    run.compare("sold_out_alone", refused.tuned(together=1), full.tuned(together=1), ALONE, SOLD_OUT)
    door, path = Door("refused", refuses=True, env=(("ORDERMILL_REFUSE_SOLD_OUT", "on"),)), Door("full path")
    run.compare("sold_out_celery", door, path, MESSAGES, SOLD_OUT)
