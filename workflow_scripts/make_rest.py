"""Claims and figures of what a failed run left, see ``harness/after_failure.py``: an order in JSON, then Snakemake's arguments."""

import json
import sys

from harness.snakemake_internals import run_again

if __name__ == "__main__":
    sys.exit(0 if run_again(json.loads(sys.argv[1]), sys.argv[2:]) else 1)
