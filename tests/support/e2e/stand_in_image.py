"""The image of `stand_in.py`: an operator's image, for its packages, with the stand-in under the names of the parts."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

from support import builders
from support.e2e import stand_in
from toxicity_cluster.commands import run
from toxicity_cluster.containerd import buildah, load
from toxicity_cluster.settings import Settings

PARTS = (
    "toxicity_training",
    "toxicity_quantization",
    "toxicity_evaluation",
    "toxicity_serving",
    "toxicity_loadtest",
)


def build_stand_in(settings: Settings, operator_image: str, results: Path = Path(builders.__file__)) -> str:
    """Builds the image and brings it to the node; its reference.

    `results` is the `builders.py` that fits the contract in the operator's image.
    """
    files = {"stand_in.py": Path(stand_in.__file__), "builders.py": results}
    copies = "".join(f"COPY stand_in.py /opt/app/{part}.py\n" for part in PARTS)
    recipe = f"FROM {operator_image}\nCOPY builders.py /opt/app/support/builders.py\n{copies}"
    content = recipe.encode() + b"".join(path.read_bytes() for path in files.values())
    reference = f"localhost/toxicity-stand-in:{hashlib.sha256(content).hexdigest()[:12]}"
    with tempfile.TemporaryDirectory() as folder:
        for name, path in files.items():
            shutil.copyfile(path, Path(folder, name))
        Path(folder, "Dockerfile").write_text(recipe)
        command = [*buildah(settings), "build", "--tag", reference, folder]
        run(command, environment={"BUILDAH_ISOLATION": "chroot"})
    load(settings, reference)
    return reference


def mirror(settings: Settings, reference: str) -> str:
    """The same image under the name of another registry, on the node; its reference there."""
    name = f"mirror.example/{reference.rpartition('/')[2]}"
    run([*buildah(settings), "tag", reference, name])
    load(settings, name)
    return name
