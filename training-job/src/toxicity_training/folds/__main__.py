"""`python -m toxicity_training.folds config.yaml`: judges a training configuration on every row of a data set."""

from __future__ import annotations

import sys

from toxicity_training.folds.run import main

if __name__ == "__main__":
    sys.exit(main())
