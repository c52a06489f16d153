"""Claims and their verdicts: each claim names a test of `gates` and its thresholds (brief §6) in
figures.yaml.
"""

import inspect
import re
from collections.abc import Callable
from typing import Any

import pandas as pd

from memorization.errors import UserError
from memorization.figure_specs import ClaimSpec
from memorization.gates import (
    canaries,
    closer_capacity,
    closer_critical,
    closer_examples,
    closer_noise,
    closer_regularisers,
    closer_scores,
    closer_sensitivity,
    copies,
    defences,
    enron,
    estimates,
    exposure,
    forget_canary,
    forget_comparisons,
    forget_controls,
    forget_rates,
    grids,
    images,
    insertions,
    leaderboard,
    privacy,
    published,
    search,
    sentences,
    training,
    translation,
    words,
)
from memorization.gates.outcome import Outcome
from memorization.report import provenance

REPRODUCED = "reproduced"
NOT_REPRODUCED = "not reproduced"
NOT_TESTABLE = "not testable at this scale"
NOT_EVALUATED = "not evaluated (stand-in data)"
VERDICTS = (REPRODUCED, NOT_REPRODUCED, NOT_TESTABLE, NOT_EVALUATED)
STANDIN = "standin"

TESTS: dict[str, Callable[..., Outcome]] = {
    test.__name__: test
    for test in (
        exposure.rank_one_share,
        exposure.base_exposure,
        exposure.runner_up_gap,
        exposure.skew_normal_ks,
        exposure.skew_normal_error,
        training.jump_at_canary,
        training.controls_no_jump,
        training.exposure_after_epoch,
        training.plateau_at_loss_minimum,
        training.overfitting_does_not_raise,
        training.early_stopping_insufficient,
        grids.recurrent_memorise_more,
        grids.recurrent_predict_better,
        grids.recurrent_losses_equal,
        grids.larger_batches_memorise_more,
        grids.batch_effect_turns_over,
        search.tree_is_exact,
        search.greedy_misses_best,
        search.search_speed_up,
        search.search_cost_falls,
        search.extraction_threshold,
        search.extraction_is_rank_one,
        privacy.exposure_is_null,
        privacy.canary_memorised,
        privacy.exposure_ignores_epsilon,
        privacy.private_loss_penalty,
        privacy.measured_below_guaranteed,
        canaries.format_raises_exposure,
        canaries.later_is_more_exposed,
        canaries.extractable_share_trend,
        canaries.secrets_are_exposed,
        canaries.secrets_need_few_queries,
        copies.one_copy_ranks_first,
        copies.copies_are_null,
        copies.copies_are_learned,
        copies.back_ends_agree,
        sentences.sentences_accepted,
        sentences.private_loss_gap,
        sentences.sentence_gaps,
        sentences.gap_follows_oddness,
        images.mnist_accuracy,
        images.mnist_expected_output,
        images.outliers_not_learned,
        insertions.exposure_rises,
        insertions.short_of_extraction,
        defences.defence_no_effect,
        defences.defence_lowers,
        defences.stopping_insufficient,
        defences.quantisation_no_effect,
        defences.optimizers_equal,
        defences.samplings_equal,
        leaderboard.only_protects,
        leaderboard.all_protect,
        leaderboard.others_do_not_lower,
        leaderboard.better_than_stopping,
        estimates.estimate_unbiased,
        estimates.sampled_at_limit,
        estimates.estimate_tells_first,
        translation.pair_memorised,
        translation.absent_pair_is_null,
        words.utility_leaves_exposure_open,
        words.some_setting_ranks_first,
        words.strategies_by_rule,
        words.strategies_differ,
        words.extractable_at,
        words.exposure_rises_with_insertions,
        words.surrogate_trend,
        words.digits_more_exposed,
        published.published_epsilons,
        published.tutorial_epsilon,
        enron.secrets_extracted,
        enron.secrets_memorised,
        enron.secret_search_is_rank,
        closer_capacity.width_needed_rises,
        closer_capacity.width_needed_is_flat,
        closer_capacity.last_doubling_helps_noise,
        closer_capacity.removing_noise_lowers_width,
        closer_capacity.noise_gains_more_from_width,
        closer_capacity.noise_slows_more_with_data,
        closer_critical.noise_more_critical,
        closer_critical.csr_rises_then_levels,
        closer_critical.radii_agree,
        closer_critical.train_csr_rises_then_falls,
        closer_examples.difficulty_order,
        closer_examples.noise_is_binomial,
        closer_examples.labels_share_patterns,
        closer_examples.filters_gain_structure,
        closer_examples.real_filters_more_structured,
        closer_regularisers.technique_is_best,
        closer_regularisers.regularisation_slows,
        closer_regularisers.orderings_differ,
        closer_noise.csr_rises_with_noise,
        closer_noise.accuracy_falls_with_noise,
        closer_noise.peak_before_memorising,
        closer_noise.csr_jumps_after_peak,
        closer_noise.patterns_first,
        closer_sensitivity.real_more_unequal,
        closer_sensitivity.random_sets_equal,
        closer_sensitivity.norms_agree,
        closer_sensitivity.diagonal_dominates,
        closer_sensitivity.real_more_off_diagonal,
        closer_scores.scores_agree,
        closer_scores.scores_find_mislabelled,
        forget_canary.canary_exposure_lowered,
        forget_canary.canary_as_retrained,
        forget_canary.retrained_is_null,
        forget_canary.relearned_sooner,
        forget_canary.forgetting_spares_loss,
        forget_rates.forgetting_rate,
        forget_rates.accuracy_drop,
        forget_controls.retraining_as_predicted,
        forget_controls.forgets_nothing,
        forget_controls.beats_placebo,
        forget_controls.forgets_more_than_retraining,
        forget_controls.memorises_enough,
        forget_comparisons.better_at_equal_rate,
        forget_comparisons.cheaper_than_retraining,
        forget_comparisons.same_messages,
        forget_comparisons.masked_sums_equal,
        forget_comparisons.updates_alike,
        forget_comparisons.outputs_approach_target,
        forget_comparisons.importance_spares_accuracy,
        forget_comparisons.third_party_exchangeable,
        forget_comparisons.posteriors_like_nonmembers,
    )
}
"""Test name -> test(table, reference, **parameters) -> Outcome."""


def evaluate(claim: ClaimSpec, table: pd.DataFrame, reference: pd.DataFrame, scale: str) -> dict[str, Any]:
    """One row of the claims table for `claim`, from a figure's tidy table and the reference rows of that
    figure.

    Stand-in data are never judged. Raises UserError for a test that does not exist or wrong parameters.
    """
    if claim.test not in TESTS:
        raise UserError(f"claim {claim.id}: no test {claim.test!r}; there are {', '.join(sorted(TESTS))}")
    sources = sorted(table["data_source"].dropna().unique()) if "data_source" in table else []
    try:
        inspect.signature(TESTS[claim.test]).bind(table, reference, **claim.parameters)
    except TypeError as error:  # misspelt or missing in figures.yaml
        raise UserError(f"claim {claim.id}: parameters of {claim.test}: {error}") from None
    outcome, verdict, reason = _judge(claim, table, reference, scale, sources)
    came = provenance.of_rows(table)
    return {
        "figure": table["figure"].iloc[0] if len(table) else "",
        "claim": claim.id,
        "statement": claim.statement,
        "test": claim.test,
        "paper_value": claim.paper,
        "ours": outcome.summary if outcome else "",
        "estimate": outcome.estimate if outcome else None,
        "low": outcome.low if outcome else None,
        "high": outcome.high if outcome else None,
        "statistic": outcome.statistic if outcome else None,
        "p_value": outcome.p_value if outcome else None,
        "n": outcome.n if outcome else 0,
        "verdict": verdict,
        "reason": reason,
        "scale": scale,
        "data_source": ", ".join(sources),
        "mark": mark(claim.paper),
        "dataset": ", ".join(sorted({name for name, _ in came.data})),
        "runs": " ".join(came.runs),  # of the whole figure, of which the test may read a part
    }


def _judge(
    claim: ClaimSpec, table: pd.DataFrame, reference: pd.DataFrame, scale: str, sources: list[str]
) -> tuple[Outcome | None, str, str]:
    if STANDIN in sources:
        return None, NOT_EVALUATED, "trained on stand-in data"
    if scale not in claim.scales:
        return None, NOT_TESTABLE, f"needs scale {' or '.join(claim.scales)}"
    if not len(table):
        return None, NOT_TESTABLE, "the figure's table is empty"
    outcome = TESTS[claim.test](table, reference, **claim.parameters)
    if outcome.verdict_supported is None:
        return outcome, NOT_TESTABLE, outcome.summary or "the test cannot decide"
    return outcome, REPRODUCED if outcome.verdict_supported else NOT_REPRODUCED, target_note(claim.paper)


def mark(paper: str) -> str:
    """What `marks` finds, as text for the claims table; "none" where there is no value."""
    return ", ".join(marks(paper)) or "none"


NO_VALUE = ("not reported", "not stated", "not separated", "no number")
"""How the text begins where the paper has no value for what a claim tests; what follows is about something near it."""


def marks(paper: str) -> list[str]:
    """The confidence marks in the text of a paper's value, each once, in order; [] where there is no such value."""
    if paper.startswith(NO_VALUE):
        return []
    return list(dict.fromkeys(re.findall(r"\b(?:verified|derived|unverified|secondary)\b", paper)))


def target_note(paper: str) -> str:
    """What a verdict's reader must know about the paper's value, from the confidence marks in its text.

    "target unverified: ..." where no value of it was read from the paper or derived from such a value: the verdict
    then says what we measured, not that the paper's value was met. Empty where all are verified, or where the test is a
    control of ours and there is no value.
    """
    found = set(marks(paper))
    doubtful = sorted(found & {"unverified", "secondary"})
    if not doubtful:
        return ""
    if found & {"verified", "derived"}:
        return f"part of the paper's values are {' or '.join(doubtful)}"
    return f"target unverified: the paper's value ({' or '.join(doubtful)}) was not read from the paper itself"
