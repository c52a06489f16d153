"""TensorFlow, quiet and set up for reproducible numbers. Every module of this back end takes `tf` from here."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

from memorization.errors import UserError

__all__ = ["choose_device", "tf"]


def _configure() -> None:
    """One thread on a CPU, as in the torch back end and for the same reasons; the same numbers from every run.

    Both must happen before TensorFlow computes anything.
    """
    tf.get_logger().setLevel("ERROR")
    if not tf.config.list_physical_devices("GPU"):
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
    tf.config.experimental.enable_op_determinism()


_configure()


def choose_device(name: str) -> str:
    """TensorFlow's name of `auto` (the first GPU if there is one, else the CPU), `cpu`, `cuda` or `cuda:<i>`.

    Raises UserError for a device that is not there.
    """
    gpus = {f"cuda:{i}": f"/GPU:{i}" for i in range(len(tf.config.list_physical_devices("GPU")))}
    available = {"cpu": "/CPU:0"} | gpus
    chosen = {"auto": next(iter(gpus), "cpu"), "cuda": "cuda:0"}.get(name, name)
    if chosen not in available:
        raise UserError(f"device {name!r}: not available here; choose auto or one of {', '.join(available)}")
    return available[chosen]
