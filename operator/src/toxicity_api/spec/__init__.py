"""The desired state: what a person writes under `spec`. The CRD is generated from these classes (`crd.py`).

Every field's description is what `kubectl explain` shows; it begins with the JSON name and says what happens
when the field is unset.
"""

from toxicity_api.spec.fields import NonEmpty, Score
from toxicity_api.spec.loadtest import LoadTestSpec, Slo
from toxicity_api.spec.model import ToxicityModelSpec
from toxicity_api.spec.pods import PodFields
from toxicity_api.spec.quality import EvaluationSpec, QualityGate, QuantizationSpec
from toxicity_api.spec.serving import LongTexts, ServingSpec
from toxicity_api.spec.sources import BaseModelSpec, DatasetSpec, HubFile, ImageFile, KaggleFile, Split, VolumeFile
from toxicity_api.spec.training import LONGEST_INPUT, SHORTEST_INPUT, Labels, Lora, TrainingSpec

__all__ = [
    "LONGEST_INPUT",
    "SHORTEST_INPUT",
    "BaseModelSpec",
    "DatasetSpec",
    "EvaluationSpec",
    "HubFile",
    "ImageFile",
    "KaggleFile",
    "Labels",
    "LoadTestSpec",
    "LongTexts",
    "Lora",
    "NonEmpty",
    "PodFields",
    "QualityGate",
    "QuantizationSpec",
    "Score",
    "ServingSpec",
    "Slo",
    "Split",
    "ToxicityModelSpec",
    "TrainingSpec",
    "VolumeFile",
]
