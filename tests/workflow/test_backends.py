"""The test modules that need a back end, run in that back end's environment (here they are skipped)."""

from conftest import ROOT, run

NEEDS_TORCH = 'importorskip("torch")'


def test_modules_that_need_torch_pass_in_its_environment(torch_environment):
    tests = ROOT / "tests"
    modules = [
        p for p in sorted(tests.rglob("test_*.py")) if NEEDS_TORCH in p.read_text() and p.name != "test_backends.py"
    ]
    assert len(modules) >= 5
    command = [str(torch_environment), "-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, modules)]
    ended = run(command, ROOT, timeout=1200, OMP_NUM_THREADS="1")
    print(ended.stdout[-3000:])
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-2000:]
    assert " passed" in ended.stdout
    assert "skipped" not in ended.stdout.splitlines()[-1]
