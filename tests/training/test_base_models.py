"""An incomplete base model folder is refused at once, naming the field; a complete one can be saved after training."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from toxicity_api.spec import TrainingSpec
from toxicity_api.stage_config import TrainingConfig
from toxicity_stage.errors import ModelError
from toxicity_training.model import load_model, save_merged
from toxicity_training.stage import run

pytestmark = pytest.mark.engine

MakeSpec = Callable[..., TrainingSpec]
MakeConfig = Callable[..., TrainingConfig]
Breaks = Callable[[Path], None]
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 12345\n"
DOWN = "model.layers.1.mlp.down_proj.weight"
EMBEDDING = "model.embed_tokens.weight"
NORM = "model.norm.weight"


@pytest.fixture
def folder(base_model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny base model, to be broken."""
    return shutil.copytree(base_model, tmp_path / "copy")


def edit_json(file: Path, **fields: object) -> None:
    document = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    file.write_text(json.dumps(document | fields), encoding="utf-8")


def edit_weights(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def without_tensor(name: str) -> Breaks:
    return lambda folder: edit_weights(folder, lambda tensors: tensors.pop(name))


def without_a_row(name: str) -> Breaks:
    return lambda folder: edit_weights(folder, lambda tensors: tensors.update({name: tensors[name][:-1].clone()}))


def with_text(name: str, text: str) -> Breaks:
    def write(folder: Path) -> None:
        (folder / name).write_text(text, encoding="utf-8")

    return write


def cut_short(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


def without_files(pattern: str) -> Breaks:
    def remove(folder: Path) -> None:
        files = list(folder.glob(pattern))
        assert files
        for file in files:
            file.unlink()

    return remove


def a_shard_that_is_not_there(folder: Path) -> None:
    index = {"metadata": {}, "weight_map": {EMBEDDING: "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors").rename(folder / "model-00002-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def an_index_without_a_map(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text("{}", encoding="utf-8")


def a_tokenizer_of_added_tokens_alone(folder: Path) -> None:
    """Like a Qwen folder without its vocabulary: the tokenizer class creates an empty one."""
    without_files("tokenizer*")(folder)
    added = {"0": {"content": "<tool_call>", "special": False}}
    edit_json(folder / "tokenizer_config.json", tokenizer_class="Qwen2Tokenizer", added_tokens_decoder=added)


def other_shape(folder: Path) -> None:
    edit_json(folder / "config.json", intermediate_size=96)


BROKEN: list[tuple[Breaks, str]] = [
    (without_files("config.json"), "no config.json"),
    (with_text("config.json", "[]"), ""),
    (with_text("config.json", POINTER), ""),
    (without_files("*.safetensors"), ""),
    (with_text("model.safetensors", POINTER), "header too large"),
    (cut_short, "not fully covered"),
    (without_tensor(DOWN), DOWN),
    (without_tensor(EMBEDDING), EMBEDDING),
    (without_tensor(NORM), NORM),
    (without_a_row(DOWN), DOWN),
    (without_a_row(EMBEDDING), EMBEDDING),
    (without_a_row(NORM), NORM),
    (other_shape, "model.layers.0.mlp.down_proj.weight"),
    (a_shard_that_is_not_there, "model-00001-of-00002"),
    (an_index_without_a_map, ""),
    (without_files("tokenizer*"), "tokenizer"),
    (a_tokenizer_of_added_tokens_alone, "tokenizer"),
    (with_text("tokenizer.json", POINTER), ""),
    (with_text("tokenizer.json", "{}"), ""),
]


@pytest.mark.parametrize("four_bit", [False, True], ids=["whole", "4bit"])
@pytest.mark.parametrize(("breaks", "words"), BROKEN)
def test_a_folder_that_is_not_whole_is_refused_by_its_field_with_the_remedy(
    folder: Path, make_spec: MakeSpec, breaks: Breaks, words: str, *, four_bit: bool
) -> None:
    breaks(folder)
    with pytest.raises(ModelError) as caught:
        load_model(folder, make_spec(load4bit=four_bit))
    assert caught.value.reason == "BaseModelUnreadable"
    message = str(caught.value)
    assert message.startswith(f"baseModel: {folder}")
    assert words in message
    assert "provide a complete Hugging Face folder" in message


@pytest.mark.parametrize("four_bit", [False, True], ids=["whole", "4bit"])
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_a_whole_folder_is_read(folder: Path, make_spec: MakeSpec, *, tied: bool, four_bit: bool) -> None:
    edit_json(folder / "config.json", tie_word_embeddings=tied)
    if not tied:
        edit_weights(folder, lambda tensors: tensors.update({"lm_head.weight": tensors[EMBEDDING] + 1}))
    model, tokenizer = load_model(folder, make_spec(load4bit=four_bit))
    assert len(tokenizer) == model.config.vocab_size
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied


ARCHITECTURES = [
    "gemma2",
    "gemma3_text",
    "llama",
    "mistral",
    "mixtral",
    "phi3",
    "qwen2",
    "qwen3",
    "gpt_neox",
    "gpt2",
]


@pytest.mark.parametrize("four_bit", [False, True], ids=["whole", "4bit"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_whole_folder_of_any_architecture_and_of_several_files_is_read(
    folder: Path, make_spec: MakeSpec, architecture: str, *, four_bit: bool
) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "vocab_size": 17}
    if architecture != "gpt2":
        sizes |= {"num_key_value_heads": 1, "head_dim": 16}
    (folder / "model.safetensors").unlink()
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **sizes))
    model.save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    loaded, _ = load_model(folder, make_spec(load4bit=four_bit))
    assert type(loaded) is type(model)


class OutOfMemoryError(RuntimeError):
    """Has the name of torch's error."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory: 1 bytes"),
        RuntimeError("unable to mmap 9 bytes from file <model.safetensors>: Cannot allocate memory (12)"),
        OSError(12, "Cannot allocate memory"),
    ],
)
def test_memory_that_ran_out_is_not_blamed_on_the_folder(
    folder: Path, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    from transformers import AutoModelForCausalLM

    def run_out(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", run_out)
    with pytest.raises(type(error)) as caught:
        load_model(folder, make_spec())
    assert caught.value is error


def test_memory_that_ran_out_while_weights_were_quantized_is_not_blamed_on_the_folder(
    folder: Path, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.integrations.bitsandbytes import Bnb4bitQuantize

    def run_out(*_: object, **__: object) -> None:
        raise OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Bnb4bitQuantize, "convert", run_out)
    with pytest.raises(RuntimeError):  # of Transformers' own: it keeps the cause to its log
        load_model(folder, make_spec(load4bit=True))


GENERATION: list[dict[str, object]] = [
    {"temperature": 0.6, "top_p": 0.9, "eos_token_id": 2},  # as Llama 2 chat has it
    {"temperature": 0.9, "top_p": 0.6, "do_sample": False},  # as Vicuna
    {"num_return_sequences": 3},
    {"pad_token_id": -1},
    {"num_beams": 1, "early_stopping": True, "length_penalty": 2.0},
]


@pytest.mark.parametrize("file", ["generation_config.json", "config.json"])
@pytest.mark.parametrize("fields", GENERATION, ids=json.dumps)
def test_a_base_that_generates_in_some_odd_way_can_be_saved(
    folder: Path, make_spec: MakeSpec, tmp_path: Path, file: str, fields: dict[str, object]
) -> None:
    from transformers import GenerationConfig

    edit_json(folder / file, **fields)
    model, tokenizer = load_model(folder, make_spec())
    save_merged(model, tokenizer, tmp_path / "merged")
    saved = GenerationConfig.from_pretrained(tmp_path / "merged")
    saved.validate(strict=True)
    assert not fields.keys() & saved.to_diff_dict().keys()
    load_model(tmp_path / "merged", make_spec())


@pytest.mark.parametrize("name", ["trainer", "loop"])
@pytest.mark.parametrize("four_bit", [False, True], ids=["whole", "4bit"])
def test_a_base_that_generates_in_some_odd_way_is_trained_to_the_end(
    folder: Path, make_config: MakeConfig, make_spec: MakeSpec, name: str, *, four_bit: bool
) -> None:
    edit_json(folder / "generation_config.json", **GENERATION[0])
    config = make_config(make_spec(engine=name, load4bit=four_bit))
    assert run(config.model_copy(update={"base_model_path": folder})) is not None
    written = json.loads((config.output_dir / "model" / "generation_config.json").read_text())
    assert not {"temperature", "top_p"} & written.keys()
