"""`dataset` and `baseModel`: the sources of the labelled comments and of the model to fine-tune."""

from __future__ import annotations

from pydantic import Field

from toxicity_api.base import Document
from toxicity_api.spec.fields import Fraction, NonEmpty, OwnerAndName, RelativePath, Seed, exactly_one


class ConfigMapFile(Document):
    name: NonEmpty = Field(
        description="Name of a ConfigMap in the resource's namespace. A ConfigMap holds at most 1 MiB."
    )
    key: NonEmpty = Field(description="Key of the ConfigMap whose value is the file.")


class VolumeFile(Document):
    claim_name: NonEmpty = Field(description="Name of a PersistentVolumeClaim in the resource's namespace.")
    path: NonEmpty = Field(description="Path inside the volume, relative to its root.")


class ImageFile(Document):
    reference: NonEmpty = Field(
        description="Reference of the container image that contains the data. The image needs no shell."
    )
    path: NonEmpty = Field(description="Absolute path of the data inside the image.", pattern="^/")


class HubModel(Document):
    repo: NonEmpty = Field(description="Model repository on the Hugging Face Hub, as `owner/name`.")
    revision: NonEmpty = Field("main", description="Branch, tag or commit to download.")
    secret_name: str | None = Field(
        None, description="Name of a Secret with the key HF_TOKEN. Unset means anonymous access."
    )


class HubFile(Document):
    repo: OwnerAndName = Field(description="Dataset repository on the Hugging Face Hub, as `owner/name`.")
    revision: NonEmpty = Field("main", description="Branch, tag or commit to download.")
    file: RelativePath | None = Field(
        None,
        description="Path of the file in the repository. Unset means its only CSV, TSV, JSON lines or Parquet file.",
    )
    secret_name: str | None = Field(
        None, description="Name of a Secret with the key HF_TOKEN. Unset means anonymous access."
    )


class KaggleFile(Document):
    dataset: OwnerAndName = Field(description="Kaggle dataset, as `owner/name`. The newest version is downloaded.")
    file: RelativePath = Field(description="Path of the file in the Kaggle dataset.")
    secret_name: str | None = Field(
        None,
        description="Name of a Secret with the keys KAGGLE_USERNAME and KAGGLE_KEY. Unset means anonymous access.",
    )


class Split(Document):
    validation: Fraction = Field(
        0.1, description="Share of rows in the validation split, which selects the threshold."
    )
    test: Fraction = Field(
        0.1, description="Share of rows in the test split, which only the reported figures use."
    )
    seed: Seed = Field(42, description="Random seed of the stratified split.")


class LabelledFile(Document):
    """Source of labelled comments: a file in CSV, TSV, JSON lines or Parquet, plain or gzip."""

    model_config = {
        "json_schema_extra": exactly_one("configMap", "persistentVolumeClaim", "image", "huggingFace", "kaggle")
    }

    config_map: ConfigMapFile | None = Field(None, description="Reads the file from a key of a ConfigMap.")
    persistent_volume_claim: VolumeFile | None = Field(None, description="Reads the file from an existing volume.")
    image: ImageFile | None = Field(None, description="Reads the file from a container image.")
    hugging_face: HubFile | None = Field(None, description="Downloads the file from the Hugging Face Hub.")
    kaggle: KaggleFile | None = Field(None, description="Downloads the file from Kaggle.")
    text_column: NonEmpty = Field("comment", description="Name of the column with the comment.")
    label_column: NonEmpty = Field(
        "toxic", description="Name of the column with the label: 1 for toxic, 0 for not toxic."
    )


class DatasetSpec(LabelledFile):
    """Source of the labelled comments: a file in CSV, TSV, JSON lines or Parquet, plain or gzip."""

    split: Split = Field(
        default_factory=Split, description="Split of the rows into training, validation and test rows."
    )


class BaseModelSpec(Document):
    """Source of the LLM to fine-tune: a Hugging Face model folder with safetensors and a tokenizer."""

    model_config = {"json_schema_extra": exactly_one("huggingFace", "persistentVolumeClaim", "image")}

    hugging_face: HubModel | None = Field(None, description="Downloads the model from the Hugging Face Hub.")
    persistent_volume_claim: VolumeFile | None = Field(
        None, description="Reads the model folder from an existing volume."
    )
    image: ImageFile | None = Field(None, description="Reads the model folder from a container image.")
