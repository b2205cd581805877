"""`ordermill worker`: Celery's own worker with its own options, and nothing else of Celery's command line.

`celery -A workers.app worker` runs the same worker, but keeps Celery's shell and all of Flower in its memory: 11 MiB.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from celery.app.utils import find_app
from celery.bin.base import CLIContext
from celery.bin.worker import worker


def main(arguments: Sequence[str]) -> None:
    """Runs a worker with the options of `celery worker`, and -A, -C, -q and --workdir of `celery`; never returns."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-A", "--app", default="workers.app")
    parser.add_argument("-C", "--no-color", action="store_true", default="NO_COLOR" in os.environ)
    parser.add_argument("-q", "--quiet", action="store_true")
    parser.add_argument("--workdir", type=Path)
    ours, options = parser.parse_known_args(arguments)
    if {"-D", "--detach"} & set(options):
        sys.exit("ordermill worker stays in the foreground: leave out --detach, or use celery -A workers.app worker")
    sys.argv = ["-m", "workers.entry", "worker", *arguments]  # with which Celery starts it again, upon SIGHUP
    if ours.workdir:
        os.chdir(ours.workdir)
    context = CLIContext(find_app(ours.app), ours.no_color, ours.workdir, ours.quiet)
    worker.main(options, prog_name="ordermill worker", obj=context, auto_envvar_prefix="CELERY_WORKER")
