"""What the first run of each later held-out set gave."""

import json
from pathlib import Path

HERE = Path(__file__).parent
FIRST_RUN = {
    which: json.loads((HERE / "heldout" / which / "first_run.json").read_text("utf-8"))
    for which in ("third", "fourth", "fifth", "sixth", "seventh")
}
