"""Write docs/config.md, with every key of the config, from the config's models: ``make config``."""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / folder) for folder in ("src", "workflow_scripts")]

from harness.config.document import page
from harness.config.reading import json_schema

if __name__ == "__main__":
    standard = ROOT / "workflow_scripts" / "harness" / "config" / "standard.yaml"
    (ROOT / "docs" / "config.md").write_text(page(json.loads(json_schema()), standard.read_text()))
