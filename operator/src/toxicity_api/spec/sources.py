"""`dataset` and `baseModel`: where the labelled comments and the model to fine-tune come from."""

from __future__ import annotations

from pydantic import Field

from toxicity_api.base import Document
from toxicity_api.spec.fields import Fraction, NonEmpty, OwnerAndName, RelativePath, Seed, exactly_one


class ConfigMapFile(Document):
    name: NonEmpty = Field(description="name of a ConfigMap in the resource's namespace (1 MiB at most).")
    key: NonEmpty = Field(description="key of the ConfigMap that holds the file.")


class VolumeFile(Document):
    claim_name: NonEmpty = Field(description="claimName of a PersistentVolumeClaim in the resource's namespace.")
    path: NonEmpty = Field(description="path inside the volume, relative to its root.")


class ImageFile(Document):
    reference: NonEmpty = Field(
        description="reference of a container image that carries the data; it needs no shell."
    )
    path: NonEmpty = Field(description="path is the absolute path inside the image.", pattern="^/")


class HubModel(Document):
    repo: NonEmpty = Field(description="repo on the Hugging Face hub, `owner/name`.")
    revision: NonEmpty = Field("main", description="revision: branch, tag or commit. Unset means `main`.")
    secret_name: str | None = Field(
        None, description="secretName of a Secret with the key HF_TOKEN. Unset means anonymous access."
    )


class HubFile(Document):
    repo: OwnerAndName = Field(description="repo of a data set on the Hugging Face hub, `owner/name`.")
    revision: NonEmpty = Field("main", description="revision: branch, tag or commit. Unset means `main`.")
    file: RelativePath | None = Field(
        None, description="file: path of the CSV file in the repo. Unset means its only .csv or .csv.gz file."
    )
    secret_name: str | None = Field(
        None, description="secretName of a Secret with the key HF_TOKEN. Unset means anonymous access."
    )


class KaggleFile(Document):
    dataset: OwnerAndName = Field(description="dataset on Kaggle, `owner/name`; its newest version is taken.")
    file: RelativePath = Field(description="file: path of the CSV file in the data set.")
    secret_name: str | None = Field(
        None,
        description="secretName of a Secret with the keys KAGGLE_USERNAME and KAGGLE_KEY."
        " Unset means anonymous access.",
    )


class Split(Document):
    validation: Fraction = Field(0.1, description="validation is the share of rows for choosing the threshold.")
    test: Fraction = Field(0.1, description="test is the share of rows that only the reported figures use.")
    seed: Seed = Field(42, description="seed of the stratified split.")


class DatasetSpec(Document):
    """Where the labelled comments come from: a CSV file, plain or gzip, UTF-8, with a header."""

    model_config = {
        "json_schema_extra": exactly_one("configMap", "persistentVolumeClaim", "image", "huggingFace", "kaggle")
    }

    config_map: ConfigMapFile | None = Field(None, description="configMap: the file is a key of a ConfigMap.")
    persistent_volume_claim: VolumeFile | None = Field(
        None, description="persistentVolumeClaim: the file lies in an existing volume."
    )
    image: ImageFile | None = Field(None, description="image: the file lies in a container image.")
    hugging_face: HubFile | None = Field(None, description="huggingFace: the file is downloaded from the hub.")
    kaggle: KaggleFile | None = Field(None, description="kaggle: the file is downloaded from Kaggle.")
    text_column: NonEmpty = Field("comment", description="textColumn names the column with the comment.")
    label_column: NonEmpty = Field("toxic", description="labelColumn names the column with 1 (toxic) or 0.")
    split: Split = Field(default_factory=Split, description="split into train, validation and test rows.")


class BaseModelSpec(Document):
    """The instruct or base LLM that is fine-tuned: a Hugging Face folder with safetensors and a tokenizer."""

    model_config = {"json_schema_extra": exactly_one("huggingFace", "persistentVolumeClaim", "image")}

    hugging_face: HubModel | None = Field(None, description="huggingFace: the model is downloaded from the hub.")
    persistent_volume_claim: VolumeFile | None = Field(
        None, description="persistentVolumeClaim: the model folder lies in an existing volume."
    )
    image: ImageFile | None = Field(None, description="image: the model folder lies in a container image.")
