"""The suites that need a back end, run in that back end's environment."""

from conftest import ROOT, run

SUITES = ["tests/contract", "tests/parity", "tests/unit"]


def test_suites_pass_in_the_torch_environment(torch_environment):
    ended = run(
        [str(torch_environment), "-m", "pytest", "-q", "-m", "torch", "-p", "no:cacheprovider", *SUITES],
        ROOT, timeout=1200, OMP_NUM_THREADS="1",
    )  # fmt: skip
    print(ended.stdout[-6000:])
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-2000:]
    assert " passed" in ended.stdout
