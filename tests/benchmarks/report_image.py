"""Run a load test twice against a service of known behaviour and save its report as an image: `make report-image`.

The second run is compared with the first. Chromium draws the page.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image, ImageChops

from support.loadtest.service import Replicas, Run, running_service
from toxicity_api.spec import LoadTestSpec

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTH, MOST_HEIGHT, COLOURS = 1060, 4000, 256
REPLICAS, SECONDS_PER_REQUEST, SECONDS_PER_CHARACTER = 2, 0.05, 0.0004


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", type=Path)
    parser.add_argument("--seconds", type=int, default=15, help="of each window")
    options = parser.parse_args()
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print("chromium is missing: apt-get install chromium", file=sys.stderr)
        return 1
    with TemporaryDirectory() as folder:
        report = measure(Path(folder), options.seconds)
        page = Path(folder, "page.png")
        size = f"--window-size={WIDTH},{MOST_HEIGHT}"
        look = [browser, "--headless", "--no-sandbox", "--hide-scrollbars", size, f"--screenshot={page}"]
        subprocess.run([*look, report.as_uri()], check=True, capture_output=True)
        save(page, options.image)
    return 0


def measure(folder: Path, seconds: int) -> Path:
    """Run the load test twice and return the report of the second run."""
    spec = LoadTestSpec.model_validate(
        {
            "requestedRps": 20, "bursts": {"everySeconds": 5, "share": 0.2, "factor": 3}, "slo": {"p95Seconds": 0.5},
            "maxLength": 300, "secondsPerBucket": seconds, "warmupSeconds": 2,
        }
    )  # fmt: skip
    options: list[str] = ["--replicas", str(REPLICAS)]
    for number in (1, 2):
        work = folder / str(number)
        work.mkdir()
        with running_service() as service:
            texts = service.texts
            service.hold = Replicas(REPLICAS, SECONDS_PER_REQUEST)
            service.delay = lambda request, texts=texts: SECONDS_PER_CHARACTER * len(texts[request])  # type: ignore[misc]
            run = Run(work, service.url, spec, *options)
            ended = run.wait()
        assert ended.exit_code == 0, ended.log
        options += ["--previous", str(run.folder / "status.json")]
    return run.folder / "report.html"


def save(page: Path, target: Path) -> None:
    """Save the page without the empty part below it, with few colours."""
    with Image.open(page) as image:
        whole = image.convert("RGB")
    found = ImageChops.difference(whole, Image.new("RGB", whole.size, "white")).getbbox()
    assert found is not None, "the page is empty"
    whole.crop((0, 0, WIDTH, min(whole.height, found[3] + 20))).quantize(COLOURS).save(target, optimize=True)


if __name__ == "__main__":
    sys.exit(main())
