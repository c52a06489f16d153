"""What run.json says of the canaries, written now or by an earlier version."""

import json

import numpy as np

from memorization.data.corpora import PlantedCanary, TrainingCorpus
from memorization.runs import Run, _text_record
from memorization.specs import RunSpec
from memorization.vocabulary import Vocabulary

VOCABULARY = Vocabulary(tuple("\n 0123456789"))
CANARY = {"format": "{d}{d}", "count": 2, "inclusion": "coin", "position": "window"}
SPEC = RunSpec.model_validate({"canary": CANARY, "replicates": 2})


def opened(directory, canaries):
    record = {"backend": "torch", "spec": SPEC.model_dump(mode="json"), "vocabulary": VOCABULARY.symbols}
    (directory / "run.json").write_text(json.dumps(record | {"canaries": canaries}))
    (directory / "model.npz").touch()
    return Run.open(directory)


def test_every_canary_is_recorded_with_its_coin(tmp_path):
    text = VOCABULARY.encode("\n12\n")
    corpora = []
    for k in (0, 1):
        inside = PlantedCanary(np.array([1, 2 + k]), f"1{2 + k}", np.array([1]))
        outside = PlantedCanary(np.array([0, 7]), "07", np.zeros(0, dtype=np.int64), included=False)
        pair = (inside, outside) if k == 0 else (outside, inside)
        corpora.append(TrainingCorpus(VOCABULARY, text, text, text, pair[0], pair))
    canaries = _text_record(SPEC, corpora)["canaries"]
    assert canaries[1] == {
        "replicate": 0,
        "index": 1,
        "fill": "07",
        "text": "07",
        "format": "{d}{d}",
        "included": False,
        "positions": [],
    }
    run = opened(tmp_path, canaries)
    assert [fill.tolist() for fill in run.fills()] == [[1, 2], [0, 7]]
    (fills, included), (others, coins) = run.planted()
    assert fills.tolist() == [[1, 2], [0, 7]]
    assert included.tolist() == [True, False]
    assert others.tolist() == [[0, 7], [1, 3]]
    assert coins.tolist() == [False, True]


def test_a_record_without_index_and_coin_still_opens(tmp_path):
    """One canary per replicate, as versions before canary.count wrote it."""
    run = opened(tmp_path, [{"replicate": k, "fill": f"0{k}", "text": f"0{k}", "positions": [1]} for k in (0, 1)])
    assert [fill.tolist() for fill in run.fills()] == [[0, 0], [0, 1]]
    assert [(f.tolist(), i.tolist()) for f, i in run.planted()] == [([[0, 0]], [True]), ([[0, 1]], [True])]


def test_every_canary_is_read_back_in_its_own_format(tmp_path):
    text = VOCABULARY.encode("\n12\n")
    corpora = []
    for k in (0, 1):
        own = tuple(
            PlantedCanary(np.array([1, i]), f"1{i}", np.array([1]), format=f"{context} {{d}}{{d}}")
            for i, context in enumerate("ab" if k else "cd")
        )
        corpora.append(TrainingCorpus(VOCABULARY, text, text, text, own[0], own))
    run = opened(tmp_path, _text_record(SPEC, corpora)["canaries"])
    assert [[f.text[0] for f in run.formats(k)] for k in (0, 1)] == [["c", "d"], ["a", "b"]]
    assert run.formats(1)[1].render(run.planted()[1][0][1]) == "b 11"


def test_a_record_without_formats_has_that_of_the_specification(tmp_path):
    run = opened(tmp_path, [{"replicate": k, "fill": f"0{k}", "text": f"0{k}", "positions": [1]} for k in (0, 1)])
    assert [f.text for k in (0, 1) for f in run.formats(k)] == ["{d}{d}", "{d}{d}"]
