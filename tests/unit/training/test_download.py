"""The download command, run as a process against fake servers of the hub and of Kaggle."""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.training.file_hosts import COMMIT, Files, Hub, Kaggle, basic, serving, zip_of
from toxicity_api.results import EXIT_FAILED, EXIT_INVALID_INPUT, SourceFacts
from toxicity_training.sources.commits import source_facts

CSV = b"comment,toxic\n" + "привет,0\n".encode() * 400
MODEL = {
    "config.json": b"{}",
    "model.safetensors": bytes(range(256)) * 20,
    "tokenizer/tokenizer.json": b'{"a": 1}',
    "README.md": b"---\nlicense: gemma\n---\n# Model",
    "docs/README.md": b"# no part of the model",
    "pytorch_model.bin": b"no part either",
}


SOURCE = ".source"
"""Suffix of the folder beside a target that stores its commit; later attempts read it."""


def entries(volume: Path) -> list[str]:
    """The other entries of the volume."""
    return sorted(path.name for path in volume.iterdir() if not path.name.endswith(SOURCE))


@dataclass
class Program:
    """`python -m toxicity_training.download` with a volume, without this machine's environment variables."""

    folder: Path
    environment: dict[str, str]

    @property
    def target(self) -> Path:
        return self.folder / "volume" / "base-model-1"

    @property
    def sentence(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8")

    def run(self, *arguments: str, **environment: str) -> int:
        """The exit code; a traceback always fails the test."""
        log = f"--termination-log={self.folder / 'log'}"
        done = subprocess.run(
            [sys.executable, "-m", "toxicity_training.download", *arguments, f"--target={self.target}", log],
            env=self.environment | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == 0 or self.sentence in done.stderr
        return done.returncode

    def left_behind(self) -> list[str]:
        """Every file of the volume."""
        volume = self.target.parent
        found = (str(path.relative_to(volume)) for path in volume.rglob("*") if path.is_file())
        return sorted(name for name in found if SOURCE not in name)


@pytest.fixture
def files() -> Files:
    return Files(
        datasets={
            "owner/one": {"README.md": b"", "data/comments.csv": CSV},
            "owner/two": {"b.csv.gz": gzip.compress(CSV), "a.csv": CSV},
            "owner/parquet": {"README.md": b"", "dataset_infos.json": b"{}", "data/train.parquet": b"PAR1"},
            "owner/none": {"train.xlsx": b"", "dataset_infos.json": b"{}"},
        },
        models={"owner/model": MODEL, "owner/bin": {"config.json": b"{}", "pytorch_model.bin": b""}},
    )


def program(folder: Path, **environment: str) -> Program:
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return Program(folder, {**kept, "HOME": str(folder / "home"), **environment})


@pytest.fixture
def hub(files: Files, tmp_path: Path) -> Iterator[Program]:
    with serving(Hub, files) as address:
        yield program(tmp_path, HF_ENDPOINT=address)


@pytest.fixture
def kaggle(files: Files, tmp_path: Path) -> Iterator[Program]:
    with serving(Kaggle, files) as address:
        yield program(tmp_path, KAGGLE_API_ENDPOINT=address)


def from_hub(repo: str, *more: str) -> list[str]:
    return ["dataset-hub", f"--repo={repo}", "--save-as=c.csv", *more]


def from_kaggle(dataset: str, file: str) -> list[str]:
    return ["dataset-kaggle", f"--dataset={dataset}", f"--file={file}", "--save-as=c.csv"]


A_MODEL = ["model", "--repo=owner/model", "--revision=main"]


@pytest.mark.parametrize("command", ["model", "dataset-hub", "dataset-kaggle"])
def test_help_needs_no_client_library(command: str) -> None:
    check = (
        "import sys, toxicity_training.download as d\n"
        "try: d.main([sys.argv[1], '--help'])\n"
        "except SystemExit: sys.exit(' '.join({'huggingface_hub', 'httpx2'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", check, command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "") and "--target" in done.stdout


def test_model_is_its_weights_configuration_tokenizer_and_card(hub: Program) -> None:
    assert hub.run(*A_MODEL) == 0
    assert hub.left_behind() == [
        "base-model-1/README.md",
        "base-model-1/config.json",
        "base-model-1/model.safetensors",
        "base-model-1/tokenizer/tokenizer.json",
    ]
    assert (hub.target / "model.safetensors").read_bytes() == MODEL["model.safetensors"]


def test_model_at_a_commit(hub: Program) -> None:
    assert hub.run("model", "--repo=owner/model", f"--revision={COMMIT}") == 0
    assert (hub.target / "config.json").read_bytes() == b"{}"


@pytest.mark.parametrize(("repo", "content"), [("owner/one", CSV), ("owner/parquet", b"PAR1")])
def test_only_data_file_of_a_repository_is_found(hub: Program, repo: str, content: bytes) -> None:
    assert hub.run(*from_hub(repo)) == 0
    assert hub.left_behind() == ["base-model-1/c.csv"]
    assert (hub.target / "c.csv").read_bytes() == content


def test_file_that_is_named_is_taken_as_it_is(hub: Program) -> None:
    assert hub.run(*from_hub("owner/two", "--file=b.csv.gz")) == 0
    assert hub.left_behind() == ["base-model-1/c.csv"]
    assert gzip.decompress((hub.target / "c.csv").read_bytes()) == CSV


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (from_hub("owner/two"), ["spec.dataset.huggingFace.file", "2 data files", "a.csv, b.csv.gz"]),
        (from_hub("owner/none"), ["spec.dataset.huggingFace.file", "no file that ends in .csv, .tsv"]),
        (from_hub("owner/two", "--file=c.csv"), ["spec.dataset.huggingFace.file", "'c.csv'", "a.csv, b.csv.gz"]),
        (from_hub("owner/missing"), ["spec.dataset.huggingFace.repo", "owner/missing", "secretName"]),
        (from_hub("owner/one", "--revision=v9"), ["spec.dataset.huggingFace.revision", "'v9'"]),
        (from_hub("owner/a--b"), ["spec.dataset.huggingFace.repo", "owner/name"]),
        (
            from_hub("owner/two", "--field=evaluation.testSets[a]"),
            ["spec.evaluation.testSets[a].huggingFace.file: "],
        ),
        (
            from_hub("owner/missing", "--field=x"),
            ["spec.x.huggingFace.repo: owner/missing", "set spec.x.huggingFace.secretName"],
        ),
        (["model", "--repo=owner/missing"], ["spec.baseModel.huggingFace.repo", "owner/missing", "secretName"]),
        (["model", "--repo=owner/model", "--revision=v9"], ["spec.baseModel.huggingFace.revision", "'v9'"]),
        (["model", "--repo=owner/bin"], ["spec.baseModel.huggingFace.repo", ".safetensors"]),
    ],
)
def test_what_the_hub_does_not_have_is_never_retried(hub: Program, arguments: list[str], words: list[str]) -> None:
    assert hub.run(*arguments) == EXIT_INVALID_INPUT
    assert [word for word in words if word not in hub.sentence] == []
    assert "\n" not in hub.sentence and hub.left_behind() == []


@pytest.mark.parametrize("arguments", [A_MODEL, from_hub("owner/one")])
def test_gated_repository_says_what_to_accept_and_to_set(hub: Program, files: Files, arguments: list[str]) -> None:
    files.gated = True
    assert hub.run(*arguments) == EXIT_INVALID_INPUT
    assert "is gated" in hub.sentence and "secretName" in hub.sentence
    assert hub.left_behind() == []


def test_token_of_the_secret_is_sent_with_every_request_for_the_repository(hub: Program, files: Files) -> None:
    files.token = "hf_secret"
    assert hub.run(*A_MODEL, HF_TOKEN="hf_secret") == 0
    callers = {caller for _, path, caller in files.requests if "owner/model" in path}
    assert callers == {"Bearer hf_secret"}


def test_wrong_token_is_told_from_none(hub: Program, files: Files) -> None:
    files.token = "hf_secret"
    assert hub.run(*from_hub("owner/one"), HF_TOKEN="hf_other") == EXIT_INVALID_INPUT
    assert "into the Secret of spec.dataset.huggingFace.secretName" in hub.sentence
    assert hub.run(*from_hub("owner/one")) == EXIT_INVALID_INPUT
    assert "set spec.dataset.huggingFace.secretName" in hub.sentence


@pytest.mark.parametrize(
    ("status", "code"), [(401, EXIT_INVALID_INPUT), (403, EXIT_INVALID_INPUT), (500, EXIT_FAILED)]
)
def test_refusal_is_final_and_an_error_of_the_hub_is_not(
    hub: Program, files: Files, status: int, code: int
) -> None:
    files.status = status
    assert hub.run(*A_MODEL) == code
    assert "spec.baseModel.huggingFace" in hub.sentence and hub.left_behind() == []


@pytest.mark.parametrize("arguments", [A_MODEL, from_hub("owner/one")])
def test_half_a_file_leaves_no_target(hub: Program, files: Files, arguments: list[str]) -> None:
    files.cut = True
    assert hub.run(*arguments) == EXIT_FAILED
    assert ".huggingFace: cannot download owner/" in hub.sentence
    assert entries(hub.target.parent) == []


@pytest.mark.parametrize("arguments", [A_MODEL, from_hub("owner/one"), from_kaggle("owner/one", "a.csv")])
def test_unreachable_host_is_worth_a_retry(tmp_path: Path, arguments: list[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: every connection is refused
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        cut_off = program(tmp_path, HF_ENDPOINT=address, KAGGLE_API_ENDPOINT=address)
        assert cut_off.run(*arguments) == EXIT_FAILED
    assert address in cut_off.sentence and "cluster's network access" in cut_off.sentence


def test_what_is_there_is_not_downloaded_again(hub: Program, files: Files) -> None:
    hub.target.mkdir(parents=True)
    assert hub.run(*A_MODEL) == 0
    assert (files.requests, list(hub.target.iterdir())) == ([], [])


def leave_part(target: Path, pod: str, age: float) -> str:
    """Leaves the folder of a pod's attempt that was killed so many seconds ago; returns the folder's name."""
    folder = target.with_name(f"{target.name}.tmp-{pod}-1-abcd1234")
    folder.mkdir(parents=True)
    (folder / "half").touch()
    os.utime(folder, (time.time() - age, time.time() - age))
    return folder.name


@pytest.mark.parametrize(("repo", "code"), [("owner/one", 0), ("owner/missing", EXIT_INVALID_INPUT)])
def test_only_what_was_abandoned_is_removed(hub: Program, repo: str, code: int) -> None:
    leave_part(hub.target, "pod-1", 7200)
    fresh = leave_part(hub.target, "pod-2", 1800)
    assert hub.run(*from_hub(repo)) == code
    assert entries(hub.target.parent) == sorted([fresh, *([hub.target.name] if code == 0 else [])])


SCRIPT = """
import socket, sys
from concurrent.futures import ThreadPoolExecutor
import toxicity_training.download as download
from toxicity_training.sources import hub
from toxicity_training.sources import kaggle
pod, volume, *arguments = sys.argv[1:]
socket.gethostname = lambda: pod
def wait(step):
    print(step, flush=True)
    sys.stdin.readline()
hub.resolve = lambda repository: "c" * 40
kaggle.resolve = lambda dataset: ""
{stand_in}
sys.exit(download.main([*arguments, f"--target={{volume}}/base-model-1", f"--termination-log={{volume}}-log"]))
"""
MODEL_OF_A_HUB = ["model", "--repo=owner/model"]
IN_THREADS = """
def fetch(repository, folder):
    folder.mkdir()
    (folder / "a").write_text("1")
    with ThreadPoolExecutor() as pool:
        list(pool.map(wait, ["half"]))
    (folder / "b").write_text("2")
    return folder
hub.download_model = fetch
"""
"""Like the hub's client: the main thread waits for others that each fetch a file."""


def scripted(volume: Path, pod: str, stand_in: str, arguments: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT.format(stand_in=stand_in), pod, str(volume), *arguments]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def at_half(process: subprocess.Popen[str]) -> subprocess.Popen[str]:
    assert process.stdout is not None and process.stdout.readline() == "half\n"
    return process


def test_terminated_download_ends_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    with at_half(scripted(tmp_path / "volume", "pod-1", IN_THREADS, MODEL_OF_A_HUB)) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 128 + signal.SIGTERM
    assert entries(tmp_path / "volume") == []


def test_slower_one_of_two_downloads_finds_the_target_there(tmp_path: Path) -> None:
    slow, fast = (
        at_half(scripted(tmp_path / "volume", pod, IN_THREADS, MODEL_OF_A_HUB)) for pod in ("pod-1", "pod-2")
    )
    halves = [path for path in (tmp_path / "volume").iterdir() if ".tmp-" in path.name]
    assert len(halves) == 2
    for process in (fast, slow):
        output, errors = process.communicate("go on\n", timeout=20)
        assert (process.returncode, errors) == (0, "")
        assert "base-model-1 is downloaded" in output
        if process is fast:
            assert sum(path.exists() for path in halves) == 1, "what the slower one has fetched so far is its own"
    assert entries(tmp_path / "volume") == ["base-model-1"]
    assert sorted(path.name for path in (tmp_path / "volume" / "base-model-1").iterdir()) == ["a", "b"]
    assert not (tmp_path / "volume-log").exists()


FULL = """
def full(*arguments, **options):
    with open("/dev/full", "wb", buffering=0) as file:
        file.write(b"1")
"""


@pytest.mark.parametrize(
    ("place", "arguments"),
    [
        ("hub.snapshot_download", MODEL_OF_A_HUB),
        ("kaggle._fetch", from_kaggle("owner/one", "a.csv")),
        ("download.publish", MODEL_OF_A_HUB),
    ],
)
def test_full_volume_is_told_as_such(tmp_path: Path, place: str, arguments: list[str]) -> None:
    volume = tmp_path / "volume"
    fetched = "hub.download_model = lambda repository, folder: folder\n" if place == "download.publish" else ""
    with scripted(volume, "pod-1", f"{FULL}{fetched}{place} = full\n", arguments) as process:
        _, errors = process.communicate(timeout=20)
    sentence = (tmp_path / "volume-log").read_text(encoding="utf-8")
    assert process.returncode == EXIT_FAILED and "Traceback" not in errors
    assert (
        sentence.startswith("spec.storage.size: ")
        and "raise spec.storage.size, which needs allowVolumeExpansion" in sentence
    )
    assert "network" not in sentence and "network access" not in sentence
    assert entries(volume) == []


def test_volume_that_cannot_be_written_is_told_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "volume").write_text("a file where the volume should be")
    with scripted(tmp_path / "volume", "pod-1", "", MODEL_OF_A_HUB) as process:
        _, errors = process.communicate(timeout=20)
    assert process.returncode == EXIT_FAILED and "Traceback" not in errors
    assert "base-model-1" in (tmp_path / "volume-log").read_text(encoding="utf-8")


@pytest.mark.parametrize("zipped", [False, True])
def test_kaggle_file_is_there_as_it_was_uploaded(kaggle: Program, files: Files, zipped: bool) -> None:
    files.zipped = zipped
    assert kaggle.run(*from_kaggle("owner/one", "data/comments.csv")) == 0
    assert kaggle.left_behind() == ["base-model-1/c.csv"]
    assert (kaggle.target / "c.csv").read_bytes() == CSV


def test_credentials_go_to_kaggle_and_not_to_its_file_store(kaggle: Program, files: Files) -> None:
    files.token = "me:key"
    assert kaggle.run(*from_kaggle("owner/two", "a.csv"), KAGGLE_USERNAME="me", KAGGLE_KEY="key") == 0
    assert files.requests == [
        ("GET", "/api/v1/datasets/view/owner/two", basic("me:key")),
        ("GET", "/api/v1/datasets/download/owner/two/a.csv", basic("me:key")),
        ("GET", "/store/owner/two/a.csv", None),
    ]


@pytest.mark.parametrize(
    ("dataset", "file", "credentials", "words"),
    [
        ("owner/two", "a.csv", {}, ["set spec.dataset.kaggle.secretName"]),
        ("owner/two", "a.csv", {"KAGGLE_USERNAME": "me", "KAGGLE_KEY": "no"}, ["Secret of spec.dataset.kaggle"]),
        ("owner/two", "c.csv", {"KAGGLE_USERNAME": "me", "KAGGLE_KEY": "key"}, ["no file 'c.csv'", "owner/two"]),
        ("owner/missing", "a.csv", {"KAGGLE_USERNAME": "me", "KAGGLE_KEY": "key"}, ["data set owner/missing"]),
    ],
)
def test_what_kaggle_does_not_give_is_never_retried(
    kaggle: Program, files: Files, dataset: str, file: str, credentials: dict[str, str], words: list[str]
) -> None:
    files.token = "me:key"
    assert kaggle.run(*from_kaggle(dataset, file), **credentials) == EXIT_INVALID_INPUT
    assert [word for word in words if word not in kaggle.sentence] == []
    assert kaggle.left_behind() == []


def test_page_that_asks_to_sign_in_is_no_file(kaggle: Program, files: Files) -> None:
    files.sign_in_page = True
    assert kaggle.run(*from_kaggle("owner/two", "a.csv")) == EXIT_INVALID_INPUT
    assert "refused access to owner/two" in kaggle.sentence


def test_archive_of_several_files_is_no_data_set(kaggle: Program, files: Files) -> None:
    files.datasets["owner/two"]["all.zip"] = zip_of("a.csv", CSV, CSV)
    assert kaggle.run(*from_kaggle("owner/two", "all.zip")) == EXIT_INVALID_INPUT
    assert "archive of 2 files" in kaggle.sentence


@pytest.mark.parametrize("behaviour", ["cut", "damaged", "down"])
def test_half_a_file_of_kaggle_leaves_no_target(kaggle: Program, files: Files, behaviour: str) -> None:
    files.cut, files.status = behaviour == "cut", 503 if behaviour == "down" else None
    archive = zip_of("a.csv", CSV)
    files.datasets["owner/two"]["a.csv"] = archive.replace(archive[45:50], b"?????")
    assert kaggle.run(*from_kaggle("owner/two", "a.csv")) == EXIT_FAILED
    assert "spec.dataset.kaggle: cannot download " in kaggle.sentence and "owner/two" in kaggle.sentence
    assert list(kaggle.target.parent.iterdir()) == []


NEWER = "d" * 40


def source_of(program: Program) -> dict[str, str]:
    found: dict[str, str] = json.loads((program.target.parent / f"base-model-1{SOURCE}/source.json").read_bytes())
    return found


@pytest.mark.parametrize("arguments", [A_MODEL, from_hub("owner/one")])
def test_branch_is_resolved_once_and_retries_download_that_commit(
    hub: Program, files: Files, arguments: list[str]
) -> None:
    files.cut = True
    assert hub.run(*arguments) == EXIT_FAILED
    repo = arguments[1].removeprefix("--repo=")
    assert source_of(hub) == {"repo": repo, "revision": "main", "commit": COMMIT}
    files.cut, files.commits["main"] = False, NEWER
    files.commits[NEWER] = NEWER
    files.requests.clear()
    assert hub.run(*arguments) == 0
    asked = "".join(path for _, path, _ in files.requests)
    assert COMMIT in asked and NEWER not in asked and "main" not in asked
    assert source_of(hub)["commit"] == COMMIT


def test_commit_that_the_repository_lost_is_told_with_the_branch_that_it_was(hub: Program, files: Files) -> None:
    files.cut = True
    assert hub.run(*A_MODEL) == EXIT_FAILED
    files.commits = {"main": NEWER, NEWER: NEWER}
    assert hub.run(*A_MODEL) == EXIT_INVALID_INPUT
    assert hub.sentence.startswith("spec.baseModel.huggingFace.revision: owner/model no longer has the commit ccc")
    assert "'main'" in hub.sentence and "set revision" in hub.sentence


RESOLVED = """
def fetch(repository, folder):
    folder.mkdir()
    (folder / "commit").write_text(repository.commit)
    wait("half")
    return folder
hub.download_model = fetch
hub.resolve = lambda repository: wait("resolved") or pod
"""


def test_two_that_resolve_at_once_download_the_commit_of_the_first(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    pods = [scripted(volume, pod, RESOLVED, MODEL_OF_A_HUB) for pod in ("pod-1", "pod-2")]
    for process in pods:
        assert process.stdout is not None and process.stdout.readline() == "resolved\n"
    for process in reversed(pods):
        assert process.stdin is not None
        process.stdin.write("go on\n")
        process.stdin.flush()
        at_half(process)
    for process in pods:
        _, errors = process.communicate("go on\n", timeout=20)
        assert (process.returncode, errors) == (0, "")
    assert (volume / "base-model-1" / "commit").read_text() == "pod-2"
    assert source_facts(volume / "none" / "c.csv", volume / "base-model-1") == SourceFacts(
        base_model_commit="pod-2"
    )


def test_kaggle_version_is_resolved_once_and_downloaded(kaggle: Program, files: Files) -> None:
    files.version, files.sign_in_page = 3, True
    assert kaggle.run(*from_kaggle("owner/one", "data/comments.csv")) == EXIT_INVALID_INPUT
    files.version, files.sign_in_page = 4, False
    files.queries.clear()
    assert kaggle.run(*from_kaggle("owner/one", "data/comments.csv")) == 0
    assert files.queries[0] == "datasetVersionNumber=3"
    facts = source_facts(kaggle.target / "c.csv", kaggle.target.with_name("none"))
    assert facts == SourceFacts(dataset_commit="version 3")


def test_nothing_is_said_of_a_source_whose_version_is_not_told(kaggle: Program, files: Files) -> None:
    assert kaggle.run(*from_kaggle("owner/one", "data/comments.csv")) == 0
    assert [path.name for path in kaggle.target.parent.iterdir()] == ["base-model-1"]
    assert source_facts(kaggle.target / "c.csv", kaggle.target) is None
