"""The desired state, which a user writes under `spec`. `crd.py` generates the CRD from these classes.

`kubectl explain` shows the description of each field. A description says what the field does, its unit, and what
happens if the field is unset. `crd.py` adds the default.
"""

from toxicity_api.spec.expose import Expose
from toxicity_api.spec.fields import NonEmpty, Score
from toxicity_api.spec.loadtest import LoadTestSpec, Slo
from toxicity_api.spec.model import ToxicityModelSpec
from toxicity_api.spec.object_store import NodeCache, ObjectStore, Scratch
from toxicity_api.spec.pod_settings import EnvVar, PodSettings, Volume, VolumeMount
from toxicity_api.spec.pods import PodFields, Toleration
from toxicity_api.spec.quality import (
    MAX_TEST_SETS,
    EvaluationSpec,
    HeldOutSet,
    QualityGate,
    QuantizationSpec,
    ThresholdSpec,
)
from toxicity_api.spec.serving import HttpSpec, LongTexts, ServingSpec
from toxicity_api.spec.sources import (
    BaseModelSpec,
    DatasetSpec,
    HubFile,
    ImageFile,
    KaggleFile,
    LabelledFile,
    Split,
    VolumeFile,
)
from toxicity_api.spec.training import (
    LONGEST_INPUT,
    SHORTEST_INPUT,
    Augmentation,
    EarlyStopping,
    Labels,
    Lora,
    Mlflow,
    PromptFormat,
    Tracking,
    TrainingSpec,
)

__all__ = [
    "LONGEST_INPUT",
    "MAX_TEST_SETS",
    "SHORTEST_INPUT",
    "Augmentation",
    "BaseModelSpec",
    "DatasetSpec",
    "EarlyStopping",
    "EnvVar",
    "EvaluationSpec",
    "Expose",
    "HeldOutSet",
    "HttpSpec",
    "HubFile",
    "ImageFile",
    "KaggleFile",
    "LabelledFile",
    "Labels",
    "LoadTestSpec",
    "LongTexts",
    "Lora",
    "Mlflow",
    "NodeCache",
    "NonEmpty",
    "ObjectStore",
    "PodFields",
    "PodSettings",
    "PromptFormat",
    "QualityGate",
    "QuantizationSpec",
    "Score",
    "Scratch",
    "ServingSpec",
    "Slo",
    "Split",
    "ThresholdSpec",
    "Toleration",
    "ToxicityModelSpec",
    "Tracking",
    "TrainingSpec",
    "Volume",
    "VolumeFile",
    "VolumeMount",
]
