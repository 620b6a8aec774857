"""Score the texts of a file: `toxicity-score --input FILE --output FOLDER --service URL`.

Run it again with the same arguments after an interruption: it continues without losing or repeating a row. The token,
if the Service needs one, is in the environment variable API_TOKEN.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

TOKEN_VARIABLE = "API_TOKEN"
ROWS_PER_PART = 5_000
PATIENCE_SECONDS = 600.0
MOST_REQUESTS = 256

logger = logging.getLogger("toxicity_score")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line. Exits with 2 on a wrong one."""
    from toxicity_store.client import add_secrets_argument

    parser = argparse.ArgumentParser(prog="toxicity-score", description=__doc__)
    add = parser.add_argument
    add("--input", required=True, help="CSV, JSON lines or Parquet: a path, http(s)://…, s3://…, gs://… or az://…")
    add("--output", required=True, help="folder for the parts, or s3://BUCKET/PREFIX, gs://… or az://…")
    add("--service", required=True, help="status.url of the ToxicityModel")
    add("--text-column", default="text", help="column of the texts (default: %(default)s)")
    add("--id-column", help="column that identifies the rows in the output (default: the number of the row)")
    add("--format", choices=("csv", "jsonl", "parquet"), help="format of the parts (default: that of the input)")
    add("--threshold", type=_share, help="lowest score of a toxic text (default: the model's threshold)")
    add("--rows-per-part", type=_positive, default=ROWS_PER_PART, help="rows of a part (default: %(default)s)")
    add("--max-requests", type=_positive, default=MOST_REQUESTS, help="most open requests (default: %(default)s)")
    add(
        "--patience", type=float, default=PATIENCE_SECONDS, metavar="SECONDS",
        help="how long to retry while the service gives no answer (default: %(default)s)",
    )  # fmt: skip
    add("--scratch", type=Path, help="folder for a download and unfinished parts (default: the temporary folder)")
    add("--endpoint", help="URL of an S3-compatible object store, or of Azure's account")
    add("--region", help="region of an S3 bucket")
    add_secrets_argument(parser)
    return parser.parse_args(arguments)


def _share(value: str) -> float:
    number = float(value)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError("must be between 0 and 1")
    return number


def _positive(value: str) -> int:
    number = int(value)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


async def score(options: argparse.Namespace, token: str | None, scratch: Path) -> None:
    """Do the run. Raises ScoreError."""
    from toxicity_score.inputs import fetch_input
    from toxicity_score.limiter import Limiter
    from toxicity_score.objects import ObjectOptions
    from toxicity_score.outputs import open_output
    from toxicity_score.rows import Columns
    from toxicity_score.run import Job, run
    from toxicity_score.service import Service

    store = ObjectOptions(options.endpoint, options.region, options.object_store_secrets)
    output = open_output(options.output, store)
    source = fetch_input(options.input, scratch, store)
    columns = Columns(options.text_column, options.id_column)
    job = Job(source, columns, output, options.format, options.rows_per_part, options.threshold, scratch)
    limiter = Limiter(options.max_requests)
    async with Service(options.service, token, limiter, options.patience, options.threshold) as service:
        await run(job, service)


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 when all rows are written, 42 if an argument or the input is wrong, and 1 if a later run may succeed."""
    from toxicity_score.errors import ScoreError

    options = parse(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    token = os.environ.get(TOKEN_VARIABLE, "").strip() or None
    try:
        with tempfile.TemporaryDirectory(prefix="toxicity-score-", dir=options.scratch) as scratch:
            asyncio.run(score(options, token, Path(scratch)))
    except ScoreError as error:
        logger.error("failed %s", error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
