"""Test the serving process with vLLM on a tiny model, where a fake engine would not show the error.

`make test-evaluation` runs them with the packages of the serving image.
"""

from __future__ import annotations

import inspect
import json
import os
import pkgutil
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.serving.process import DEADLINE, Served, running, wait
from support.training.evaluation_process import STAGE_SECONDS, engine_config
from support.training.plain_scores import HARMLESS, TOXIC
from support.training.tiny import ALIKE, PLAIN, SPELLED, write_base_model
from toxicity_api.checksums import write_checksums
from toxicity_api.normal_form.folder import write_normal_form
from toxicity_api.stage_config import STAGE_CONFIG_VARIABLE
from toxicity_serving.engine.runners import VLLM_INTERNAL_NAMES, VLLM_NAMES
from toxicity_serving.engine.tokenizer import FastTokenizer, fast_tokenizer

pytestmark = pytest.mark.engine

SUPPORT = Path(__file__).parents[1] / "support" / "serving"
STRANGE_WORDS = 200
FLOOD = {"texts": [" ".join(PLAIN * 600)] * 64}
"""The largest batch of the longest texts, each in 32 windows. It keeps even a tiny model busy for about a second."""


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serving") / "model"
    write_base_model(folder, hidden_size=64, intermediate_size=128, head_dim=64)
    write_normal_form(folder, 1)
    write_checksums(folder)
    return folder


@pytest.fixture(scope="module")
def served(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    # a queue for all windows of FLOOD
    with running(model_dir, tmp_path_factory.mktemp("served"), queueLimit=4096) as found:
        yield found


@pytest.fixture(scope="module")
def flood_seconds(served: Served) -> float:
    """The seconds that FLOOD takes when it is not cancelled."""
    began = time.monotonic()
    assert served.client.post("/v1/classify", json=FLOOD).status_code == 200
    seconds = time.monotonic() - began
    assert seconds > 0.8, "too quick to tell work that was dropped from work that was done"
    return seconds


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, when vLLM is imported
@pytest.mark.parametrize("name", [*VLLM_NAMES, *VLLM_INTERNAL_NAMES])
def test_vllm_has_the_names_that_the_engine_uses(name: str) -> None:
    assert pkgutil.resolve_name(name)


@pytest.mark.parametrize("field", ["logprob_token_ids", "output_kind", "detokenize", "max_tokens"])
def test_vllm_has_the_sampling_parameters_that_the_engine_uses(field: str) -> None:
    import vllm

    assert field in inspect.signature(vllm.SamplingParams).parameters


def test_model_card_names_the_engine_and_verified_weights(served: Served) -> None:
    card = served.client.get("/v1/model").json()
    assert card["verified"] is True
    assert card["engine"].startswith("vllm ")
    assert card["normalForm"] == 1


def test_a_text_is_scored_in_the_normal_form_that_the_folder_names(served: Served) -> None:
    texts = ["ты дурак", " т\u200bы дура\u0301к\n", "\u202eкаруд ыт\u202c", "чай"]
    answers = served.client.post("/v1/classify", json={"texts": texts}).json()["results"]
    plain, *written, other = (answer["score"] for answer in answers)
    assert written == pytest.approx([plain] * 2, abs=1e-3)
    assert other != pytest.approx(plain, abs=1e-3)


def test_an_identical_text_scores_the_same_alone_and_in_a_batch_of_64(served: Served) -> None:
    text = " ".join(PLAIN)
    [alone] = served.classify(text).json()["results"]
    mixed = [text if at % 2 else f"{text} {at} {PLAIN[at % len(PLAIN)]}" for at in range(64)]
    answer = served.client.post("/v1/classify", json={"texts": mixed}).json()
    assert {result["score"] for at, result in enumerate(answer["results"]) if at % 2} == {alone["score"]}
    assert len({result["score"] for result in answer["results"]}) > 1, "the texts must not all score alike"


def test_deadline_aborts_the_work_in_the_engine(served: Served, flood_seconds: float) -> None:
    """The engine serves in order: if FLOOD stayed in the engine, the next text would time out."""
    flood = served.client.post("/v1/classify", json=FLOOD, headers={DEADLINE: str(int(250 * flood_seconds))})
    assert flood.status_code == 504
    assert served.classify("чай", seconds=flood_seconds / 2).status_code == 200


def test_disconnect_aborts_the_work_in_the_engine(served: Served, flood_seconds: float) -> None:
    before = served.metric('toxicity_requests_total{outcome="cancelled"}')
    with pytest.raises(httpx.ReadTimeout):
        served.client.post("/v1/classify", json=FLOOD, timeout=httpx.Timeout(10, read=flood_seconds / 4))
    wait(lambda: served.metric('toxicity_requests_total{outcome="cancelled"}') == before + 1, 10)
    assert served.classify("чай", seconds=flood_seconds / 2).status_code == 200
    assert served.metric("toxicity_queue_depth") == 0


def test_control_tokens_in_a_text_are_ordinary_characters(served: Served) -> None:
    spelled, alike = served.scores([SPELLED, ALIKE])
    assert spelled == alike


@pytest.fixture(scope="module")
def strange_words(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model with a tokenizer that has words and a control token beyond the vocabulary of the weights."""
    from tokenizers import Tokenizer

    folder = Path(shutil.copytree(model_dir, tmp_path_factory.mktemp("strange") / "model"))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_tokens([f"слово{number}" for number in range(STRANGE_WORDS)])
    tokenizer.add_special_tokens(["<picture>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    write_checksums(folder)
    return folder


@pytest.mark.parametrize("split_special_tokens", [True, False])
def test_token_ids_are_those_of_transformers(
    strange_words: Path, tmp_path: Path, split_special_tokens: bool
) -> None:
    """Also with a tokenizer.json that cuts texts and pads them, which only concerns training."""
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    tokenizer = Tokenizer.from_file(str(strange_words / "tokenizer.json"))
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=7)
    folder = shutil.copytree(strange_words, tmp_path / "model")
    tokenizer.save(str(folder / "tokenizer.json"))
    fast = fast_tokenizer(AutoTokenizer.from_pretrained(folder))
    assert isinstance(fast, FastTokenizer)
    plain = AutoTokenizer.from_pretrained(folder)
    options = {"add_special_tokens": False, "split_special_tokens": split_special_tokens}
    for text in ("", " ".join(PLAIN), "чай <picture> чай", "<eos>чай<bos>", SPELLED, "слово7!", "\x00 😀🏳️‍🌈\n"):
        assert fast(text, **options)["input_ids"] == plain(text, **options)["input_ids"], text
    assert fast.bos_token_id == plain.bos_token_id is not None
    assert fast.added_tokens_decoder == plain.added_tokens_decoder


def test_tokens_outside_the_vocabulary_do_not_reach_the_engine(strange_words: Path, tmp_path: Path) -> None:
    """Gemma 3's tokenizer has such a control token, <image_soft_token>. Its embedding lookup would crash the engine."""
    with running(strange_words, tmp_path, enforceEager=True) as served:
        refused = served.client.post("/v1/classify", json={"texts": ["чай", f"чай слово{STRANGE_WORDS - 1}"]})
        assert (refused.status_code, "text 1 has token" in refused.json()["message"]) == (422, True)
        spelled, alike = served.scores(["чай <picture>", "чай ?x?"])
        assert spelled == alike


def test_labels_with_the_same_first_token_end_the_service_with_their_names(
    model_dir: Path, tmp_path: Path
) -> None:
    labels = {"toxic": TOXIC, "nonToxic": f"{TOXIC} {HARMLESS}"}
    with (
        pytest.raises(AssertionError, match=f"(?s)the service ended.*'{TOXIC}'.*begin with the same token"),
        running(model_dir, tmp_path, labels=labels),
    ):
        pass


def test_dead_engine_fails_all_pending_and_later_requests(model_dir: Path, tmp_path: Path) -> None:
    """The engine crashes in a step. Any other crash of the engine takes the same path."""
    told = run_engine("dying_engine.py", model_dir, tmp_path)
    assert told["before"] == "scores"
    assert len(told["during"]) == 32
    assert [
        word for word in (*told["during"], told["after"], told["check"]) if "vLLM's engine died" not in word
    ] == []


def test_large_prompts_are_computed_in_pieces_while_small_ones_come(model_dir: Path, tmp_path: Path) -> None:
    found = run_engine("stepping_engine.py", model_dir, tmp_path)
    steps = {name: each["steps"] for name, each in found.items()}
    in_pieces = [[48]] * 4 + [[8]]
    assert steps["large"] == steps["large later"] == steps["long, but of a small request"] == [[200]]
    assert steps["small"] == [[60]]
    assert steps["large after small"] == in_pieces
    assert found["together"]["overtook"]
    assert [48, 48] in steps["together"] and [200] not in steps["together"]
    assert sum(map(sum, steps["together"])) == 260
    for name in ("large after small", "together", "large later"):
        assert found[name]["score"] == pytest.approx(found["large"]["score"], abs=0.01)


def test_a_head_of_two_tokens_gives_the_logits_of_transformers(tmp_path: Path) -> None:
    """Gemma 2 caps its logits, and Llama's output matrix is not the one of its input here."""
    families = ["Gemma2", "Gemma3", "Llama", "Mistral", "Granite"]
    found = run_script("every_head.py", str(tmp_path), *families, home=tmp_path)
    assert {family: each["way"] for family, each in found.items()} == {
        **dict.fromkeys(families[:4], "TwoTokenHead"),
        "Granite": "WholeVocabulary",  # it scales its logits
    }
    for each in found.values():
        assert each["vllm"] == pytest.approx(each["transformers"], abs=1e-3)
        assert len({round(value, 2) for value in each["vllm"]}) == 4, "the prompts must differ"


def run_engine(script: str, model_dir: Path, scratch: Path) -> dict[str, Any]:
    """Return the JSON that a script of support/serving prints, which runs the engine in a process of its own."""
    config = engine_config(model_dir, enforceEager=True).model_dump_json(by_alias=True)
    return run_script(script, str(scratch), home=scratch, **{STAGE_CONFIG_VARIABLE: config})


def run_script(script: str, *arguments: str, home: Path, **variables: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(SUPPORT / script), *arguments],
        env=os.environ | variables | {"HOME": str(home)},
        stdout=subprocess.PIPE,
        timeout=STAGE_SECONDS,
        check=True,
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))
