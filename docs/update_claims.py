"""Write docs/claims.md from the declarations of the primary claims: ``make claims``."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src")]

from sinkorigin.claims.accounts import ACCOUNTS
from sinkorigin.claims.document import page
from sinkorigin.claims.ledger import PRIMARY, TRAININGS

if __name__ == "__main__":
    (ROOT / "docs" / "claims.md").write_text(page([*PRIMARY, *TRAININGS], ACCOUNTS))
