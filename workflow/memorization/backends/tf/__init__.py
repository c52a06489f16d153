"""The TensorFlow back end, private training by TF Privacy: `train` and `load` as in `backends.base.Backend`."""

from collections.abc import Sequence
from pathlib import Path

from memorization import privacy_file
from memorization import weights as weight_files
from memorization.backends import checkpoint
from memorization.backends.observer import Observer
from memorization.backends.tf.classifier_group import TFClassifier, load_classifiers, train_classifiers
from memorization.backends.tf.group import Group
from memorization.backends.tf.images import TFImageClassifier, load_images, train_images
from memorization.backends.tf.model import TFLanguageModel
from memorization.backends.tf.networks import language_model
from memorization.backends.tf.runtime import choose_device, tf
from memorization.backends.training import Trainer
from memorization.classifier_specs import ClassifierRunSpec
from memorization.data.corpora import TrainingCorpus, training_data
from memorization.data.images import ImageData
from memorization.data.labelled import LabelledData
from memorization.specs import ImageRunSpec, RunSpec
from memorization.vocabulary import Vocabulary

__all__ = ["TFLanguageModel", "load", "train"]


def train(
    spec: RunSpec | ImageRunSpec | ClassifierRunSpec,
    data: Sequence[TrainingCorpus] | ImageData | LabelledData,
    run_dir: Path,
    device: str = "auto",
) -> None:
    """Train all replicates of `spec`, one by one; write model.npz, curves.csv and measures.csv into `run_dir`.

    `data`: one corpus per replicate, or the images. Interrupted, training continues from
    run_dir/checkpoint.pkl. Raises UserError: a device that is not there, too little text, private training without
    run_dir/privacy.csv, or a full disk (the last checkpoint stays usable).
    """
    place = choose_device(device)
    if isinstance(spec, ImageRunSpec):
        return train_images(spec, data, run_dir, place)
    if isinstance(spec, ClassifierRunSpec):
        return train_classifiers(spec, data, run_dir, place)
    if len(data) != spec.replicates:
        raise ValueError(f"{len(data)} corpora for {spec.replicates} replicates")
    mechanism = privacy_file.read(run_dir) if spec.privacy is not None else None
    groups = [Group(spec, k, corpus, place, mechanism) for k, corpus in enumerate(data)]
    key = checkpoint.fingerprint(spec, training_data(data), f"tensorflow {tf.__version__} {place} {mechanism}")
    Trainer(spec, groups, run_dir, key, Observer(spec, data)).train()


def load(
    run_dir: Path, spec: RunSpec | ImageRunSpec | ClassifierRunSpec, vocabulary: Vocabulary, device: str = "auto"
) -> list[TFLanguageModel] | list[TFImageClassifier] | list[TFClassifier]:
    """The trained models of a finished run, one per replicate.

    Raises UserError if model.npz is missing or does not fit.
    """
    place = choose_device(device)
    if isinstance(spec, ImageRunSpec):
        return load_images(run_dir, spec, place)
    if isinstance(spec, ClassifierRunSpec):
        return load_classifiers(run_dir, spec, place)
    stacked = weight_files.load(run_dir, spec.model, len(vocabulary))
    return [
        language_model({name: array[k] for name, array in stacked.items()}, vocabulary, place)
        for k in range(len(stacked["output.bias"]))
    ]
