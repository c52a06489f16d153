"""The PyTorch back end: `train` and `load` as in `backends.base.Backend`."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from memorization import weights as weight_files
from memorization.backends import checkpoint
from memorization.backends.base import LanguageModel
from memorization.backends.observer import Observer
from memorization.backends.torch.architectures import language_model
from memorization.backends.torch.classifier_group import load_classifiers, train_classifiers
from memorization.backends.torch.federated_cell import load_federated, train_federated
from memorization.backends.torch.group import Group, blocks
from memorization.backends.torch.images import load_images, train_images
from memorization.backends.torch.model import TorchLanguageModel
from memorization.backends.torch.products import require_able
from memorization.backends.torch.text_cell import load_federated_text, train_federated_text
from memorization.backends.torch.translation import load_translators, train_translators
from memorization.backends.training import Trainer
from memorization.classifier_specs import ClassifierRunSpec
from memorization.data.corpora import TrainingCorpus, training_data
from memorization.errors import UserError
from memorization.federated_specs import FederatedRunSpec
from memorization.federated_text_specs import FederatedTextRunSpec
from memorization.specs import ImageRunSpec, RunSpec
from memorization.translation_specs import TranslationRunSpec
from memorization.vocabulary import Vocabulary

__all__ = ["TorchLanguageModel", "load", "train"]


def choose_device(name: str) -> torch.device:
    """`auto` is the first GPU if there is one, else the CPU. Raises UserError for a device that is not there.

    On a CPU torch is set to one thread: Snakemake runs trainings side by side, and two threads on a small LSTM are many
    times slower than one as soon as the cores are shared. It also makes results independent of the machine's cores.
    """
    available = ["cpu"] + [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    chosen = {"auto": available[1] if len(available) > 1 else "cpu", "cuda": "cuda:0"}.get(name, name)
    if chosen not in available:
        raise UserError(f"device {name!r}: not available here; choose auto or one of {', '.join(available)}")
    if chosen == "cpu":
        torch.set_num_threads(1)
    return torch.device(chosen)


def train(spec: RunSpec, corpora: Sequence[TrainingCorpus], run_dir: Path, device: str = "auto") -> None:
    """Train all replicates of `spec` together; write model.npz, curves.csv and measures.csv into `run_dir`.

    Interrupted, it continues from run_dir/checkpoint.pkl. With `spec.privacy` training is private, under the mechanism
    of run_dir/privacy.csv. Raises UserError: a device that is not there or lacks the precision, too little text, no
    privacy.csv, or a full disk (the last checkpoint stays usable).
    """
    if isinstance(spec, ImageRunSpec):
        return train_images(spec, corpora, run_dir, choose_device(device))
    if isinstance(spec, TranslationRunSpec):
        return train_translators(spec, corpora, run_dir, choose_device(device))
    if isinstance(spec, ClassifierRunSpec):
        return train_classifiers(spec, corpora, run_dir, choose_device(device))
    if isinstance(spec, FederatedRunSpec):
        return train_federated(spec, corpora, run_dir, choose_device(device))
    if isinstance(spec, FederatedTextRunSpec):
        return train_federated_text(spec, corpora, run_dir, choose_device(device))
    if len(corpora) != spec.replicates:
        raise ValueError(f"{len(corpora)} corpora for {spec.replicates} replicates")
    place = choose_device(device)
    require_able(spec.training.precision, place)
    make, platform = Group, f"torch {torch.__version__} {place.type}"
    if spec.privacy is not None:
        make, about = _private_groups(run_dir)
        platform += about
    members = blocks(len(corpora), place, private=spec.privacy is not None)
    groups = [make(spec, block, [corpora[k] for k in block], place) for block in members]
    key = checkpoint.fingerprint(spec, training_data(corpora), platform)
    Trainer(spec, groups, run_dir, key, Observer(spec, corpora)).train()


def _private_groups(run_dir: Path) -> tuple[Callable[..., Group], str]:
    """What makes private groups under the run's privacy.csv, and what a checkpoint must agree on with it."""
    import opacus

    from memorization import privacy_file
    from memorization.backends.torch.private_group import PrivateGroup

    mechanism = privacy_file.read(run_dir)
    return partial(PrivateGroup, mechanism=mechanism), f" opacus {opacus.__version__} {mechanism}"


def load(run_dir: Path, spec: RunSpec, vocabulary: Vocabulary, device: str = "auto") -> list[LanguageModel]:
    """The trained models of a finished run, one per replicate.

    Raises UserError if model.npz is missing or does not fit.
    """
    place = choose_device(device)
    if isinstance(spec, ImageRunSpec):
        return load_images(run_dir, spec, place)
    if isinstance(spec, TranslationRunSpec):
        return load_translators(run_dir, spec, vocabulary, place)
    if isinstance(spec, ClassifierRunSpec):
        return load_classifiers(run_dir, spec, place)
    if isinstance(spec, FederatedRunSpec):
        return load_federated(run_dir, spec, place)
    if isinstance(spec, FederatedTextRunSpec):
        return load_federated_text(run_dir, spec, vocabulary, place)
    stacked = weight_files.load(run_dir, spec.model, len(vocabulary))
    return [
        language_model(spec.model, {n: torch.from_numpy(a[k]).to(place) for n, a in stacked.items()}, vocabulary)
        for k in range(len(stacked["output.bias"]))
    ]
