# Configuration and plan: parsed and checked before anything runs. Logic lives in the package, not here.
import json
import os
import sys

sys.path.insert(0, os.path.join(workflow.basedir, "workflow"))

from jinja2 import Template
from memorization import cluster, environments, own_audit, preflight, tables, warm
from memorization.configuration import ROOT, load_config
from memorization.data.registry import registry
from memorization.errors import UserError
from memorization.expansion import code_digest, dataset_names, expand
from memorization.monitor import Monitor, attach, work
from memorization.spec_base import canonical_json
from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

# The papers, or an audit of a text of the user's own.
try:
    CONFIG = load_config(config, told=workflow.config_settings.config if workflow.is_main_process else None)
    PLAN, OWN = own_audit.plan(CONFIG) if CONFIG.corpus else (expand(CONFIG, dataset_names()), None)
except UserError as error:
    raise WorkflowError(str(error))

PUBLISHED = PLAN.config.tables == "published"
CODE = code_digest()
DATASETS = registry(ROOT / "config" / "datasets.yaml") | own_audit.datasets(OWN)

units = {}
if workflow.is_main_process:
    try:
        preflight.check(PLAN, DATASETS)
    except UserError as error:
        raise WorkflowError(str(error))
    units = work(PLAN, DATASETS)
    side_by_side = workflow.resource_settings.nodes or workflow.resource_settings.cores or 1
    told = Monitor(units, side_by_side, queued=not workflow.local_exec)
    attach(logger, told, dry_run=lambda: workflow.dryrun)


wildcard_constraints:
    backend="[a-z]+",
    run="[0-9a-f]{12}",
    attack="[0-9a-f]{12}",
    score="[0-9a-f]{12}",
    paper="[a-z_]+",
    figure="[a-z0-9_]+",


def audit_pages(wildcards):
    """The page of an audit. Asked for only when it is a target: who wants one must say of what."""
    if OWN is None:
        raise WorkflowError("audit: of which text? Name it: snakemake audit --config corpus=my.txt")
    return [f"{RESULTS}/audit/{OWN.name}.{kind}" for kind in ("html", "csv")]


# Of what comes after a training: figures appear as soon as their runs are there.
SOONER = 1_000_000


def longest_first(wildcards):
    """Priority of a training: its assumed seconds. A long one that is left to the end would have a machine to itself."""
    return min(round(units.get(("train", wildcards.run), 0)), SOONER - 1)


def python_of(wildcards):
    """The interpreter of a back end, as written in the command."""
    if PLAN.config.software == "ambient":
        return "python"
    return f"envs/{wildcards.backend}/.venv/bin/python"


def warm_pythons():
    """Server of `warm` -> its interpreter: the driver's, and where the trainings run here, those of their back ends."""
    built = PLAN.backends if workflow.local_exec and PLAN.config.software == "uv" and not PUBLISHED else []
    return {"driver": sys.executable} | {backend: f"envs/{backend}/.venv/bin/python" for backend in built}


def only_counting():
    """Whether nothing but target `costs` is asked for, which needs no environment and draws nothing."""
    return set(workflow.dag_settings.targets) == {"costs"}


def only_benchmarks():
    """Whether nothing but target `benchmarks` is asked for, beside which nothing else should run."""
    return set(workflow.dag_settings.targets) == {"benchmarks"}


def figure_of(wildcards):
    return PLAN.figures[wildcards.paper, wildcards.figure]


def cells_of(wildcards):
    """The figure's cells as JSON text: what `tables.build` needs of each."""
    return json.dumps(
        [
            {
                "backend": cell.backend,
                "run": cell.run.run_id,
                "attack": cell.attack.attack_id if cell.attack else None,
                "score": cell.score.score_id if cell.score else None,
                "private": cell.run.privacy is not None,
                "varied": cell.varied,
            }
            for cell in figure_of(wildcards).cells
        ]
    )


def table_inputs(wildcards):
    """Every file that the figure's table is made of."""
    files = []
    for cell in json.loads(cells_of(wildcards)):
        files.append(f"{RESULTS}/runs/{cell['backend']}/{cell['run']}/run.json")
        for source in tables.sources_of(cell, figure_of(wildcards).spec.sources):
            files.append(f"{tables.source_path(RESULTS, cell, source)}/{source}.csv")
    return files


def privacy_of(wildcards):
    """What a private training needs beforehand: its noise, from rule account."""
    private = PLAN.runs[wildcards.run].privacy is not None
    return f"{RESULTS}/privacy/{wildcards.run}/privacy.csv" if private else []


def data_of(wildcards):
    return f"{RESULTS}/data/{PLAN.runs[wildcards.run].dataset}/provenance.json"


def table_of(wildcards):
    """This machine's table, or the committed one: different files, so that published mode trains nothing."""
    return f"{TABLES}/{wildcards.paper}/{wildcards.figure}.csv"


def caption_of(wildcards):
    """The figure's caption: report() takes no wildcards in its path, so the text travels as a parameter."""
    path = ROOT / "workflow" / "papers" / wildcards.paper / "captions" / f"{wildcards.figure}.rst"
    return Template(path.read_text()).render(snakemake={"config": config})
