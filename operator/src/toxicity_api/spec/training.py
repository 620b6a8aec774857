"""`training`: LoRA fine-tuning of the base model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator

from toxicity_api.base import Document
from toxicity_api.normal_form import NORMAL_FORM_VERSION
from toxicity_api.spec.fields import MAX_BATCH_SIZE, MAX_ROWS, NonEmpty, Score, Seed, cel
from toxicity_api.spec.pods import JobFields


class Labels(Document):
    """The words that the model learns to answer with. Their first tokens must differ."""

    toxic: NonEmpty = Field(" да", description="Answer for a toxic comment, with its leading space.")
    non_toxic: NonEmpty = Field(
        " нет", description="Answer for a comment that is not toxic, with its leading space."
    )


class Lora(Document):
    r: int = Field(16, ge=1, le=512, description="Rank of the adapter.")
    alpha: int = Field(
        32, ge=1, le=65_536, description="Scale of the adapter, whose output is multiplied by alpha / r."
    )
    dropout: float = Field(0.05, ge=0, lt=1, description="Dropout probability on the adapter's input.")
    bias: Literal["none", "all", "lora_only"] = Field(
        "none", description="Bias terms that are trained, as PEFT defines them."
    )
    target_modules: list[str] = Field(
        default_factory=lambda: ["all-linear"],
        min_length=1,
        description="Names of the modules that get an adapter. The single entry `all-linear` means every linear"
        " layer.",
    )
    init_weights: Literal["default", "gaussian"] = Field(
        "default", description="Initialization of the adapter's weights, as PEFT defines it."
    )


class Augmentation(Document):
    """Distorted spelling in the training rows, as real comments have it. The labels and the steps stay the same."""

    share: Score = Field(
        0.3,
        description="Share of the training rows that each epoch sees with distorted spelling, from 0 to 1: masked,"
        " repeated or separated letters, leetspeak, lower case, missing punctuation, quotes, emoji, mentions or links."
        " Each epoch draws other rows and distortions. 0 trains on the rows as they are.",
    )


class EarlyStopping(Document):
    """Validation during training. The adapter with the lowest loss on the validation rows is kept."""

    validations_per_epoch: int = Field(
        2,
        ge=0,
        le=1000,
        description="Number of validations per epoch, evenly spaced. Another one follows the last step. 0 turns"
        " validation off and keeps the last adapter.",
    )
    patience: int = Field(
        4,
        ge=1,
        le=1000,
        description="Number of validations in a row without a lower loss after which the training stops.",
    )
    max_rows: int = Field(
        256,
        ge=8,
        le=MAX_ROWS,
        description="Maximum number of rows of a validation, in a stratified sample of the validation split.",
    )


class Mlflow(Document):
    """A run on an MLflow server. It never fails the training: without an answer, the training goes on."""

    tracking_uri: str = Field(
        pattern=r"^https?://[^\s/@]+(/[^\s?#]*)?$",
        max_length=512,
        description="URL of the MLflow server, for example http://mlflow.mlflow:5000. A login belongs into a Secret"
        " that pod.envFrom names.",
    )
    experiment: NonEmpty = Field(
        "toxicity", description="Name of the experiment that gets the run. It is created if it does not exist."
    )


class Tracking(Document):
    """Where the curves of a training are recorded, besides status, log and the files of its result."""

    tensor_board: bool = Field(
        False, description="Writes event files for TensorBoard into the folder `tensorboard` of the result."
    )
    mlflow: Mlflow | None = Field(None, description="Records each training as a run on an MLflow server.")


MAX_STEPS = 999_999_999
"""Maximum of checkpointSteps. A progress line of the training has at most nine digits for a step."""

SHORTEST_INPUT, LONGEST_INPUT = 16, 8192
"""Bounds of maxInputLength in tokens. They also apply to the result of `auto`."""
INPUT_MESSAGE = f"maxInputLength must be a number of tokens from {SHORTEST_INPUT} to {LONGEST_INPUT}, or auto"

TokenLimit = Annotated[
    int | Literal["auto"],
    Field(
        json_schema_extra={
            "x-kubernetes-int-or-string": True,
            "x-kubernetes-validations": [
                cel(
                    f"type(self) == int ? self >= {SHORTEST_INPUT} && self <= {LONGEST_INPUT} : self == 'auto'",
                    INPUT_MESSAGE,
                )
            ],
        }
    ),
]


PLACEHOLDER = "{text}"
PLACEHOLDER_MESSAGE = f"promptTemplate must contain {PLACEHOLDER} exactly once: the comment replaces it"


def _with_one_place(template: str) -> str:
    """Check the schema's rule for the template and return it. Raises ValueError."""
    if template.count(PLACEHOLDER) != 1:
        raise ValueError(PLACEHOLDER_MESSAGE)
    return template


PromptTemplate = Annotated[
    str,
    AfterValidator(_with_one_place),
    Field(
        json_schema_extra={
            "x-kubernetes-validations": [cel(f"self.split('{PLACEHOLDER}').size() == 2", PLACEHOLDER_MESSAGE)]
        }
    ),
]


@dataclass(frozen=True)
class PromptFormat:
    """How a text becomes a prompt: the template around it, and the version of the text's normal form."""

    template: str
    normal_form: int


class TrainingSpec(JobFields):
    """LoRA fine-tuning of the base model."""

    engine: Literal["trainer", "loop"] = Field(
        "trainer",
        description="Training loop: the Hugging Face Trainer, or a plain PyTorch loop with equal results.",
    )
    prompt_template: PromptTemplate = Field(
        "токсичный текст: {text}\nответ:",
        description="Prompt, with the placeholder {text} exactly once for the comment. The label follows the prompt."
        " Other braces stay as they are.",
    )
    normal_form: int | None = Field(
        None,
        ge=0,
        le=NORMAL_FORM_VERSION,
        description="Version of the normal form of the texts, which removes invisible characters and other disguises"
        " of words. 0 means that texts stay as they are. Unset means the newest version of the operator that trains.",
    )
    labels: Labels = Field(default_factory=Labels, description="Labels that the model answers with.")
    lora: Lora = Field(default_factory=Lora, description="LoRA adapter, passed to PEFT.")
    epochs: float = Field(
        1.0, gt=0, le=100, description="Number of passes over the training rows. Fractions are allowed."
    )
    learning_rate: float = Field(3e-4, gt=0, le=1, description="Peak learning rate.")
    scheduler: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="Schedule of the learning rate after the warm-up."
    )
    warmup_ratio: float = Field(
        0.05, ge=0, lt=1, description="Share of all steps in which the learning rate rises to its peak."
    )
    batch_size: int = Field(8, ge=1, le=MAX_BATCH_SIZE, description="Number of rows per batch.")
    gradient_accumulation_steps: int = Field(
        1, ge=1, le=MAX_BATCH_SIZE, description="Number of batches per optimizer update."
    )
    max_input_length: TokenLimit = Field(
        256,
        description="Maximum length of a prompt, in tokens. Longer comments are cut to fit. `auto` means the 98th"
        " percentile of the training prompts' lengths.",
    )
    max_target_length: int = Field(
        5, ge=1, le=64, description="Maximum length of a label, in tokens. A longer label fails the training."
    )
    load4bit: bool | None = Field(
        None,
        alias="load4bit",
        description="Loads the base model in 4 bit (bitsandbytes). Unset means true with a GPU and false without.",
    )
    precision: Literal["bf16", "fp32"] | None = Field(
        None,
        description="Arithmetic of the training. bf16 is mixed precision: matrix products in bf16, the adapter in fp32."
        " Unset means bf16 with a GPU or on a CPU with bf16 instructions, and otherwise fp32, as for 4 bit on a CPU.",
    )
    gradient_checkpointing: bool = Field(
        False, description="Recomputes activations in the backward pass, which uses less memory and more time."
    )
    checkpoint_steps: int = Field(
        50,
        ge=1,
        le=MAX_STEPS,
        description="Number of steps between two checkpoints. A restarted pod resumes from the last one.",
    )
    augmentation: Augmentation = Field(
        default_factory=Augmentation, description="Augmentation of the training rows."
    )
    early_stopping: EarlyStopping = Field(
        default_factory=EarlyStopping, description="Validation during training, which keeps the best adapter."
    )
    tracking: Tracking = Field(
        default_factory=Tracking, description="Recording of the curves. A change trains nothing again."
    )
    max_samples: int | None = Field(
        None,
        ge=32,
        le=MAX_ROWS,
        description="Maximum number of rows of the dataset, in a stratified sample. Unset means all rows.",
    )
    max_evaluation_samples: int | None = Field(
        None,
        ge=8,
        le=MAX_ROWS,
        description="Maximum number of rows in each of the validation and the test split. Unset means all rows.",
    )
    seed: Seed = Field(42, description="Random seed of the initialization and of the order of rows.")
    run_id: str = Field(
        "1",
        min_length=1,
        max_length=63,
        description="Identifier of the run. Change it to train again with an unchanged spec.",
    )

    @field_validator("max_input_length")
    @classmethod
    def _bounded(cls, value: int | str) -> int | str:
        """Check the bounds. The schema states them as a CEL rule, since a union has no bounds."""
        if isinstance(value, int) and not SHORTEST_INPUT <= value <= LONGEST_INPUT:
            raise ValueError(INPUT_MESSAGE)
        return value

    @property
    def max_input_tokens(self) -> int:
        """maxInputLength as a number. Raises ValueError while it is still `auto`."""
        if isinstance(self.max_input_length, str):
            raise ValueError(
                "maxInputLength is auto: the number of tokens is known only after the training rows are read"
            )
        return self.max_input_length

    @property
    def prompt_format(self) -> PromptFormat:
        """The prompts of a stage. Its configuration names the version, unless its operator knew no normal form."""
        return PromptFormat(self.prompt_template, self.normal_form or 0)

    @property
    def wanted_normal_form(self) -> int:
        """normalForm, or its default."""
        return NORMAL_FORM_VERSION if self.normal_form is None else self.normal_form

    def with_normal_form(self, version: int) -> Self:
        """Return the spec with the version that a stage uses."""
        return self.model_copy(update={"normal_form": version})

    @property
    def loads_4bit(self) -> bool:
        """load4bit, or its default."""
        return self.gpus > 0 if self.load4bit is None else self.load4bit
