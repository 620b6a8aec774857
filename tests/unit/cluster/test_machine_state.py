"""Mounts, cgroups and settings, read from the kernel and from the environment."""

from __future__ import annotations

import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from toxicity_cluster.cgroups import parse_hierarchies
from toxicity_cluster.containerd import layout_files, link_blobs
from toxicity_cluster.settings import Settings
from toxicity_cluster.teardown import parse_mounts

MOUNTINFO = r"""22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:26 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
31 22 0:27 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
40 22 0:40 / /var/lib/toxicity-model/kubelet/pods/1/volumes/token rw - tmpfs tmpfs rw
41 22 0:41 / /var/lib/toxicity-model/kubelet rw shared:1 - tmpfs tmpfs rw
42 22 0:42 / /var/lib/toxicity-model-2/kubelet rw - tmpfs tmpfs rw
43 22 0:43 / /var/lib/toxicity-model/with\040blank rw - tmpfs tmpfs rw
"""


def test_parse_mounts_finds_ours_only_and_the_deepest_first() -> None:
    state = Path("/var/lib/toxicity-model")
    assert parse_mounts(MOUNTINFO, state) == [
        state / "kubelet/pods/1/volumes/token",
        state / "kubelet",
        state / "with blank",
    ]


def test_parse_hierarchies_tells_the_unified_one_apart() -> None:
    assert parse_hierarchies(MOUNTINFO) == [
        (Path("/sys/fs/cgroup/memory"), False),
        (Path("/sys/fs/cgroup/unified"), True),
    ]


def test_settings_come_from_the_environment_with_defaults() -> None:
    settings = Settings.from_environment({"TOXICITY_CACHE": "/c"}, effective_uid=0)
    assert settings.cache == Path("/c")
    assert settings.kubeconfig == Path("/var/lib/toxicity-model/kubeconfig")
    assert (settings.sources / "packages.txt").is_file()


@pytest.mark.parametrize(
    ("root", "environment", "folders"),
    [
        (True, {}, ["/var/cache/toxicity-model", "/var/lib/toxicity-model"]),
        (True, {"XDG_CACHE_HOME": "/x"}, ["/var/cache/toxicity-model", "/var/lib/toxicity-model"]),
        (False, {}, ["/home/me/.cache/toxicity-model", "/home/me/.local/state/toxicity-model"]),
        (False, {"XDG_CACHE_HOME": "/x", "XDG_STATE_HOME": "/y"}, ["/x/toxicity-model", "/y/toxicity-model"]),
        (
            False,
            {"XDG_CACHE_HOME": "x", "XDG_STATE_HOME": ""},
            ["/home/me/.cache/toxicity-model", "/home/me/.local/state/toxicity-model"],
        ),
        (True, {"TOXICITY_CACHE": "/c", "TOXICITY_STATE": "/s"}, ["/c", "/s"]),
        (False, {"TOXICITY_CACHE": "/c", "TOXICITY_STATE": "/s"}, ["/c", "/s"]),
    ],
)
def test_settings_and_makefile_agree_on_the_folders(
    root: bool, environment: dict[str, str], folders: list[str]
) -> None:
    environment = {"HOME": "/home/me", **environment}
    settings = Settings.from_environment(environment, effective_uid=0 if root else 1000)
    assert [str(settings.cache), str(settings.state)] == folders
    show = ["--eval", 'show: ; @echo "$(TOXICITY_CACHE) $(TOXICITY_STATE)"', "show"]
    argv = [
        "make",
        "--no-print-directory",
        "-C",
        str(settings.sources.parent),
        f"ROOT={'0' if root else ''}",
        *show,
    ]
    output = subprocess.run(argv, env={"PATH": os.environ["PATH"], **environment}, capture_output=True, check=True)
    assert output.stdout.decode().split() == folders


def test_settings_use_the_given_kubeconfig_unless_it_is_our_own() -> None:
    given = Settings.from_environment({"TOXICITY_STATE": "/s", "KUBECONFIG": "/home/me/config"})
    assert given.given_kubeconfig == given.kubeconfig == Path("/home/me/config")
    ours = Settings.from_environment({"TOXICITY_STATE": "/s", "KUBECONFIG": "/s/kubeconfig"})
    assert ours.given_kubeconfig is None
    assert ours.kubeconfig == Path("/s/kubeconfig")


def test_a_layout_sends_only_the_blobs_of_the_image_that_the_node_lacks(tmp_path: Path) -> None:
    content, layout = tmp_path / "content", tmp_path / "layout"
    blobs = layout / "blobs" / "sha256"
    content.mkdir()
    for name in ("aa", "bb", "ff"):
        (content / name).write_text(f"layer {name}")
    assert link_blobs([content], blobs) == {"aa", "bb", "ff"}
    assert (blobs / "aa").samefile(content / "aa")
    manifest = {
        "config": {"digest": "sha256:cc"},
        "layers": [{"digest": f"sha256:{name}"} for name in ("aa", "bb", "dd")],
    }
    (blobs / "ee").write_text(json.dumps(manifest))
    for name in ("cc", "dd"):
        (blobs / name).touch()
    (layout / "index.json").write_text(json.dumps({"manifests": [{"digest": "sha256:ee"}]}))
    (layout / "oci-layout").touch()
    sent = [path.relative_to(layout).as_posix() for path in layout_files(layout, {"aa"})]
    assert sent == [*(f"blobs/sha256/{name}" for name in ("bb", "cc", "dd", "ee")), "index.json", "oci-layout"]


def test_blobs_that_the_node_removes_meanwhile_are_left_out(tmp_path: Path) -> None:
    """containerd collects an obsolete image's blobs at any moment, here while they are being linked."""
    content, blobs = tmp_path / "content", tmp_path / "blobs"
    content.mkdir()
    names = {f"{number:04}" for number in range(3000)}
    for name in names:
        (content / name).touch()
    with ThreadPoolExecutor(1) as pool:
        removal = pool.submit(lambda: [(content / name).unlink() for name in sorted(names, reverse=True)])
        linked = link_blobs([content], blobs)
        removal.result()
    assert {path.name for path in blobs.iterdir()} == linked <= names


def test_clean_stops_the_embedded_cluster_before_it_removes_the_cache_also_with_another_kubeconfig() -> None:
    """The cache contains the images of the running cluster."""
    given = {**os.environ, "KUBECONFIG": "/another", "TOXICITY_CACHE": "/the-cache"}
    root = Settings.from_environment().sources.parent
    done = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", "clean"],
        cwd=root,
        env=given,
        capture_output=True,
        text=True,
        check=True,
    )
    *_, down, remove = done.stdout.splitlines()
    assert down.startswith("env -u KUBECONFIG ") and down.endswith(" toxicity_cluster down")
    assert remove == "rm -rf .venv /the-cache"
