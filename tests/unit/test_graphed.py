"""Recorded training steps, and that no step waits for the GPU.

No GPU is needed: a recorder of the test's own takes down every operator that a step calls, with the very tensors, and
calls them again in that order without any Python of ours. What is not in fixed buffers goes wrong there as in a graph.
On a GPU the same comparison runs with torch's graphs.
"""

import numpy as np
import pytest
from test_training import make_corpora, make_spec, train

from memorization.specs import RunSpec

torch = pytest.importorskip("torch")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_leaves  # noqa: E402

from memorization.backends.torch import graphed, group  # noqa: E402
from memorization.backends.torch.group import Group  # noqa: E402

CPU = torch.device("cpu")
NO_GPU = not torch.cuda.is_available()
ARCHITECTURES = {
    "lstm": {},
    "gru": {"architecture": "gru"},
    "cnn": {"architecture": "cnn"},
    "wavenet": {"architecture": "wavenet"},
    "transformer": {"architecture": "transformer", "units": 8, "heads": 2},
}


class Tape(TorchDispatchMode):
    """Takes operators down: function, arguments and the tensors that came out."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        self.calls.append((function, arguments, options or {}, result))
        return result

    @torch.no_grad()
    def play(self):
        """The same operators again; what they return goes where it went when they were taken down."""
        for function, arguments, options, result in self.calls:
            again = function(*arguments, **options)
            if isinstance(result, torch.Tensor):
                again, result = [again], [result]
            for new, old in zip(again or (), result or (), strict=True):
                if isinstance(old, torch.Tensor) and new is not old and not old._is_view():
                    old.copy_(new)


class TapeRecorder:
    """As `graphed.CudaRecorder`, on a CPU."""

    failing = False

    def __init__(self, device):
        self.recorded = 0

    def __call__(self, work):
        if self.failing:
            raise RuntimeError("operation not permitted when stream is capturing\nmore lines")
        for _ in range(graphed.WARM_UP):
            work()
        tape = Tape()
        with tape:
            work()
        self.recorded += 1
        return tape.play


@pytest.fixture
def recorder(monkeypatch):
    """Steps on a CPU are recorded."""
    kind = type("Recorder", (TapeRecorder,), {})
    monkeypatch.setattr(group, "recorder_for", kind)
    return kind


def in_one_block(monkeypatch):
    monkeypatch.setattr("memorization.backends.torch.blocks", lambda count, device, private=False: [list(range(count))])


OPTIONS = [
    {},
    {"dropout": 0.3, "weight_dropout": 0.4, "optimizer": "adam"},
    {"gradient_clip": None, "optimizer": "momentum"},
    {"precision": "bfloat16"},
]
NAMES = ["plain", "masks", "unclipped", "bfloat16"]


@pytest.mark.parametrize("options", OPTIONS, ids=NAMES)
def test_recorded_training_is_bitwise_that_of_unrecorded_steps(tmp_path, monkeypatch, options):
    """Two shapes of a batch, a rate that drops, masks that are drawn anew."""
    in_one_block(monkeypatch)
    spec = make_spec(2, epochs=2.0, learning_rate_drops=[1], **options)
    plain, curves = train(spec, tmp_path / "plain")
    monkeypatch.setattr(group, "recorder_for", TapeRecorder)
    recorded, again = train(spec, tmp_path / "recorded")
    for name in plain:
        np.testing.assert_array_equal(recorded[name], plain[name], err_msg=name)
    columns = ["train_loss_nats", "validation_loss_nats", "test_loss_nats"]
    assert again[columns].equals(curves[columns])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_can_be_recorded(tmp_path, recorder, architecture):
    spec = make_spec(2, model=ARCHITECTURES[architecture])
    steps = {}
    for name, wanted in (("plain", None), ("recorded", recorder)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(group, "recorder_for", wanted or (lambda device: None))
            made = Group(spec, [0, 1], make_corpora(spec), CPU)
        list(made.train_epoch(1, 4))
        steps[name] = [made.weights_of(k) for k in (0, 1)]
    for plain, recorded in zip(*steps.values(), strict=True):
        for name, array in plain.items():
            np.testing.assert_array_equal(recorded[name], array, err_msg=name)


def test_each_shape_is_recorded_once_and_dropped_replicates_record_anew(recorder):
    spec = make_spec(3)
    made = Group(spec, [0, 1, 2], make_corpora(spec), CPU)
    assert made.data["train"].count % spec.training.batch_size
    for epoch in (1, 2):
        list(made.train_epoch(epoch, made.batches))
    first = made._graphed
    assert sorted(shape[1] for shape in first._recordings) == [made.data["train"].count % 8, 8]
    assert first._recorder.recorded == 2
    made.drop({1})
    list(made.train_epoch(3, made.batches))
    assert made._graphed is not first
    assert {shape[0] for shape in made._graphed._recordings} == {2}
    made.restore(made.state())
    assert made._graphed._recordings == {}


def test_early_stopping_and_recorded_steps_give_the_same_models(tmp_path, monkeypatch):
    in_one_block(monkeypatch)
    spec = make_spec(3, epochs=4.0, optimizer="adam", patience=1, learning_rate=0.03, dropout=0.2)
    plain, curves = train(spec, tmp_path / "plain")
    assert curves.groupby("replicate")["step"].max().nunique() > 1, "no replicate stops early: this shows nothing"
    monkeypatch.setattr(group, "recorder_for", TapeRecorder)
    recorded, _ = train(spec, tmp_path / "recorded")
    for name in plain:
        np.testing.assert_array_equal(recorded[name], plain[name], err_msg=name)


def test_evaluation_does_not_move_a_recorded_step_s_buffers(recorder):
    """More windows are evaluated at once than trained on, so the evaluated network's buffers grow."""
    spec = make_spec(1)
    plain, recorded = (Group(spec, [0], make_corpora(spec, lines=80), CPU) for _ in range(2))
    plain._graphed = None
    for made in (plain, recorded):
        for epoch in (1, 2):
            list(made.train_epoch(epoch, 3))
            made.evaluate("train")
    for name, array in plain.weights_of(0).items():
        np.testing.assert_array_equal(recorded.weights_of(0)[name], array, err_msg=name)


def test_what_cannot_be_recorded_runs_unrecorded_and_says_so_once(tmp_path, recorder, monkeypatch, caplog):
    in_one_block(monkeypatch)
    recorder.failing = True
    spec = make_spec(3, epochs=4.0, optimizer="adam", patience=1, learning_rate=0.03)
    failed, _ = train(spec, tmp_path / "failed")
    said = [record.getMessage() for record in caplog.records if "CUDA graph" in record.getMessage()]
    assert len(said) == 1
    assert said[0].endswith("unrecorded: operation not permitted when stream is capturing")
    monkeypatch.setattr(group, "recorder_for", lambda device: None)
    plain, _ = train(spec, tmp_path / "plain")
    for name in plain:
        np.testing.assert_array_equal(failed[name], plain[name], err_msg=name)


def test_a_tape_that_reads_what_is_not_in_a_buffer_is_caught(recorder, monkeypatch):
    """The comparison above can fail: with windows that are not copied into the buffer the numbers differ."""
    spec = make_spec(1)
    plain, recorded = (Group(spec, [0], make_corpora(spec), CPU) for _ in range(2))
    plain._graphed = None
    monkeypatch.setattr(graphed.Recording, "__init__", _without_own_rows(graphed.Recording.__init__))
    for made in (plain, recorded):
        list(made.train_epoch(1, 3))
    assert not np.array_equal(plain.weights_of(0)["output.weight"], recorded.weights_of(0)["output.weight"])


def _without_own_rows(original):
    def broken(self, step, parameters, rows, masks):
        first = rows.clone()
        original(self, lambda ignored, drawn: step(first, drawn), parameters, rows, masks)

    return broken


class Host(TorchDispatchMode):
    """Fails on what makes the host wait for the device, or the device for the host."""

    WAITS = ("_local_scalar_dense", "nonzero", "is_nonzero", "masked_select", "equal", "_unique", "unique_dim")

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        name = function.overloadpacket.__name__
        options = options or {}
        tensors = [t for t in tree_leaves((arguments, options)) if isinstance(t, torch.Tensor)]
        assert name not in self.WAITS, f"a step calls {name}: the host waits"
        devices = {t.device.type for t in tensors if t.dim()} | {torch.device(options.get("device") or "meta").type}
        assert devices <= {"meta"}, f"{name} between {sorted(devices)}: a copy that the host waits for"
        return function(*arguments, **options)


def step_on_a_device_without_numbers(spec):
    """One step of a group on torch's meta device, whose tensors have shapes and no numbers to wait for."""
    made = Group(spec, [0, 1], make_corpora(spec), torch.device("meta"))
    rows = torch.empty(2, 8, dtype=torch.int64, device="meta")
    total = torch.zeros(2, dtype=torch.float64, device="meta")
    with Host():
        return total.add_(made._update(rows, None).double() * 8)


@pytest.mark.parametrize("optimizer", ["rmsprop", "adam", "sgd", "momentum", "adagrad", "adadelta"])
def test_no_step_waits_for_the_device(optimizer):
    assert step_on_a_device_without_numbers(make_spec(2, optimizer=optimizer, weight_decay=0.01)).is_meta


def test_no_step_over_very_many_words_waits_for_the_device():
    from memorization.backends.torch import lstm
    from memorization.weights import initial_weights, stack, trained

    model = RunSpec(model={"layers": 2, "units": 6, "embedding": 4}).model
    arrays = stack([initial_weights(model, 1100, np.random.default_rng(k)) for k in range(2)])
    weights = {n: torch.from_numpy(a).to("meta").requires_grad_(trained(n)) for n, a in arrays.items()}
    ids = torch.empty(2, 5, 3, dtype=torch.int64, device="meta")
    with Host():
        lstm.losses(weights, ids, ids, [lstm.Workspace(), lstm.Workspace()]).sum().backward()
    assert weights["output.weight"].grad.is_meta


@pytest.mark.parametrize(
    "wait",
    [
        lambda loss: loss.sum().item(),
        lambda loss: loss.cpu(),
        lambda loss: bool((loss > 0).all()),
        lambda loss: loss[loss > 0],
        lambda loss: loss + torch.ones(2).to(loss.device),
    ],
    ids=["item", "cpu", "bool", "mask", "from the host"],
)
def test_a_step_that_waits_for_the_device_is_caught(monkeypatch, wait):
    original = group.clip_gradients

    def waiting(parameters, limit):
        wait(parameters[0].grad[:, 0, 0])
        return original(parameters, limit)

    monkeypatch.setattr(group, "clip_gradients", waiting)
    with pytest.raises((AssertionError, NotImplementedError), match=r"the host waits|torch\.nonzero\(\)"):
        step_on_a_device_without_numbers(make_spec(2))


@pytest.mark.skipif(NO_GPU, reason="needs a GPU")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("options", OPTIONS, ids=NAMES)
def test_cuda_graphs_train_as_unrecorded_steps(tmp_path, monkeypatch, caplog, architecture, options):
    """On a GPU the same kernels in the same order; tolerances are for sums by atomic additions."""
    if architecture != "lstm" and {"weight_dropout", "precision"} & set(options):
        pytest.skip("an option of the LSTM's only")
    from memorization.backends import torch as backend
    from memorization.weights import load

    spec = make_spec(3, epochs=2.0, model=ARCHITECTURES[architecture], **options)
    trained = {}
    for name in ("recorded", "plain"):
        if name == "plain":
            monkeypatch.setattr(group, "recorder_for", lambda device: None)
        backend.train(spec, make_corpora(spec), tmp_path / name, device="cuda")
        trained[name] = load(tmp_path / name, spec.model, len(make_corpora(spec)[0].vocabulary))
    assert not [r for r in caplog.records if "CUDA graph" in r.getMessage()]
    for name, array in trained["plain"].items():
        np.testing.assert_allclose(trained["recorded"][name], array, rtol=1e-3, atol=1e-5, err_msg=name)


@pytest.mark.skipif(NO_GPU, reason="needs a GPU")
def test_no_step_synchronises_on_a_gpu(tmp_path):
    spec = make_spec(2)
    made = Group(spec, [0, 1], make_corpora(spec), torch.device("cuda:0"))
    steps = made.train_epoch(1, made.batches)
    next(steps)
    torch.cuda.set_sync_debug_mode("error")
    try:
        next(steps)
        next(steps)
    finally:
        torch.cuda.set_sync_debug_mode("default")
