"""`training`: LoRA fine-tuning of the base model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from toxicity_api.base import Document
from toxicity_api.spec.fields import LARGEST_BATCH, MOST_ROWS, NonEmpty, Seed, cel
from toxicity_api.spec.pods import JobFields


class Labels(Document):
    """The words the model is taught to answer with; their first tokens must differ."""

    toxic: NonEmpty = Field(" да", description="toxic is the answer for a toxic comment, with its leading space.")
    non_toxic: NonEmpty = Field(" нет", description="nonToxic is the answer for a harmless comment.")


class Lora(Document):
    r: int = Field(16, ge=1, le=512, description="r is the rank of the adapter.")
    alpha: int = Field(32, ge=1, le=65_536, description="alpha scales the adapter by alpha / r.")
    dropout: float = Field(0.05, ge=0, lt=1, description="dropout on the adapter's input.")
    bias: Literal["none", "all", "lora_only"] = Field("none", description="bias terms that are trained.")
    target_modules: list[str] = Field(
        default_factory=lambda: ["all-linear"],
        min_length=1,
        description="targetModules by name; the single entry `all-linear` means every linear layer.",
    )
    init_weights: Literal["default", "gaussian"] = Field("default", description="initWeights of the adapter.")


MOST_STEPS = 999_999_999
"""A progress line of the training has at most nine digits for its steps."""

SHORTEST_INPUT, LONGEST_INPUT = 16, 8192
"""Bounds of maxInputLength in tokens, also of what `auto` comes to."""
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
PLACEHOLDER_MESSAGE = f"promptTemplate must contain {PLACEHOLDER} exactly once: the comment takes its place"


def _with_one_place(template: str) -> str:
    """The template, with the rule of the schema checked. Raises ValueError."""
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


class TrainingSpec(JobFields):
    """LoRA fine-tuning of the base model."""

    engine: Literal["trainer", "loop"] = Field(
        "trainer", description="engine: the Hugging Face Trainer, or our own PyTorch loop with equal results."
    )
    prompt_template: PromptTemplate = Field(
        "токсичный текст: {text}\nответ:",
        description="promptTemplate with the placeholder {text} exactly once; the label follows it. Other braces"
        " stay as they are.",
    )
    labels: Labels = Field(default_factory=Labels, description="labels the model answers with.")
    lora: Lora = Field(default_factory=Lora, description="lora adapter, passed through to PEFT.")
    epochs: float = Field(1.0, gt=0, le=100, description="epochs over the training rows.")
    learning_rate: float = Field(3e-4, gt=0, le=1, description="learningRate at its peak.")
    scheduler: Literal["cosine", "linear", "constant"] = Field("cosine", description="scheduler of the rate.")
    warmup_ratio: float = Field(0.05, ge=0, lt=1, description="warmupRatio of all steps.")
    batch_size: int = Field(8, ge=1, le=LARGEST_BATCH, description="batchSize in rows.")
    gradient_accumulation_steps: int = Field(
        1, ge=1, le=LARGEST_BATCH, description="gradientAccumulationSteps per update."
    )
    max_input_length: TokenLimit = Field(
        256,
        description="maxInputLength of a prompt in tokens; `auto` is the 98th percentile of the training rows.",
    )
    max_target_length: int = Field(
        5, ge=1, le=64, description="maxTargetLength in tokens that a label may have; a longer one is refused."
    )
    load4bit: bool | None = Field(
        None,
        alias="load4bit",
        description="load4bit: the base model in 4 bit (bitsandbytes). Unset means on a GPU only.",
    )
    gradient_checkpointing: bool = Field(
        False, description="gradientCheckpointing: recompute activations, less memory for more time."
    )
    checkpoint_steps: int = Field(
        50,
        ge=1,
        le=MOST_STEPS,
        description="checkpointSteps between checkpoints, from which a killed pod goes on.",
    )
    max_samples: int | None = Field(
        None,
        ge=32,
        le=MOST_ROWS,
        description="maxSamples of the whole data set, drawn stratified. Unset means all rows.",
    )
    max_evaluation_samples: int | None = Field(
        None,
        ge=8,
        le=MOST_ROWS,
        description="maxEvaluationSamples of validation and of test each. Unset means all rows.",
    )
    seed: Seed = Field(42, description="seed of initialisation and data order.")
    run_id: str = Field(
        "1",
        min_length=1,
        max_length=63,
        description="runId: change it to train again, with an unchanged spec too.",
    )

    @field_validator("max_input_length")
    @classmethod
    def _bounded(cls, value: int | str) -> int | str:
        """The bounds that the schema states as a rule, since a union has none of its own."""
        if isinstance(value, int) and not SHORTEST_INPUT <= value <= LONGEST_INPUT:
            raise ValueError(INPUT_MESSAGE)
        return value

    @property
    def max_input_tokens(self) -> int:
        """maxInputLength as a number. Raises ValueError while it is still `auto`."""
        if isinstance(self.max_input_length, str):
            raise ValueError("maxInputLength is auto: it is known only once the training rows are read")
        return self.max_input_length

    @property
    def loads_4bit(self) -> bool:
        """load4bit, or what it is when unset."""
        return self.gpus > 0 if self.load4bit is None else self.load4bit
