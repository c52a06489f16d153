"""The figures of A Closer Look at Memorization: one function per key, draw(table, reference) -> Figure."""

from memorization.figures_closer_capacity import fig05_capacity, fig06_convergence, text_capacity_cifar10  # noqa: F401
from memorization.figures_closer_critical import fig09_critical_samples  # noqa: F401
from memorization.figures_closer_examples import fig01_easy_examples, fig02_filters  # noqa: F401
from memorization.figures_closer_noise import fig07_mnist_noise, fig08_cifar_noise, subset_curves  # noqa: F401
from memorization.figures_closer_regularisers import fig10_regularisers, fig11_training_curves  # noqa: F401
from memorization.figures_closer_scores import example_scores  # noqa: F401
from memorization.figures_closer_sensitivity import fig03_sensitivity, fig04_class_sensitivity  # noqa: F401
