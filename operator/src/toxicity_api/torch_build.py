"""Whether an image has the build of torch that the requested GPUs need."""

from __future__ import annotations

from importlib import metadata

CPU_SUFFIX = "+cpu"
"""End of the version of torch's CPU build. The CUDA build of PyPI has no suffix, those of other indexes have `+cu…`."""


def refuse_cpu_build(gpus: int, field: str) -> str | None:
    """Return why this image cannot use the GPUs that `field` requests, or None if it can.

    Only metadata is read, so that the answer comes before torch is imported, which takes seconds. An image without
    torch gets no answer: its first import says what is missing.
    """
    versions = [found.version for found in metadata.distributions(name="torch")] if gpus else []
    version = next(iter(versions), "")
    if not version.endswith(CPU_SUFFIX):
        return None
    return (
        f"{field} is {gpus}, but the image has the CPU build of torch ({version}), which cannot use a GPU: use an image"
        f" that was built with TORCH_SOURCE=cuda, or set {field} to 0"
    )
