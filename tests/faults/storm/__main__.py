"""`python -m tests.faults.storm`: see `run`."""

import sys

from tests.faults.storm.run import main

sys.exit(main())
