"""Claims and figures of what a failed run left, see ``harness/after_failure.py``: an order in JSON, then Snakemake's arguments."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))  # the library of this checkout, whatever is installed

from harness.snakemake_internals import run_again
from sinkorigin.parent_processes import end_with_parents

if __name__ == "__main__":
    end_with_parents()
    sys.exit(0 if run_again(json.loads(sys.argv[1]), sys.argv[2:]) else 1)
