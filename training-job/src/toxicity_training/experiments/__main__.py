"""`python -m toxicity_training.experiments grid.yaml`: trains several configurations and compares them."""

from __future__ import annotations

import sys

from toxicity_training.experiments.run import main

if __name__ == "__main__":
    sys.exit(main())
