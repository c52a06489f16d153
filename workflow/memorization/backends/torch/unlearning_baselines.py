"""Ways of forgetting that need more than an ordinary server keeps: FedEraser (Liu et al. 2021) and SISA (Bourtoule et
al. 2021).
"""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from memorization.backends.torch.federated import NUMBER_BYTES, Server
from memorization.backends.torch.unlearning import TARGET, Case, Moment, Watch, account, work_share
from memorization.federated_specs import RequestSpec


def federaser(case: Case, request: RequestSpec) -> Iterator[Moment]:
    """The others' updates of every `interval`-th round are replayed without user 0: the first as it was, the later ones
    with their old norms but the directions of a short new training (`calibration` of the local epochs, at least one),
    array by array.

    Deviation: only norms and the first round's updates are kept here, which is all that the replay reads; `stored`
    counts what a server keeps that must be ready for any user's request.
    """
    others, watch, server = case.federations(case.others(), "federaser"), Watch(), Server()
    epochs = max(1, math.ceil(request.calibration * case.spec.training.local_epochs))
    rounds = range(1, case.spec.training.rounds + 1, request.interval)
    mine = torch.tensor([user.number != TARGET for user in case.users], device=case.base.device)

    def replayed(models: Tensor, round_: int) -> Tensor:
        if round_ == 1:
            uploads = case.history.first[mine]
        else:
            uploads = others.uploads(models, round_, epochs)
            new, old = case.models.layer_norms(uploads), case.history.layer_norms[round_ - 1][mine]
            uploads = case.models.scaled(uploads, torch.where(new > 0, old / new, torch.zeros_like(new)))
        return server.aggregate(models, uploads, others.owners, others.weights)

    models = case.initial
    for round_ in rounds:
        models = watch.timed(lambda now=models, j=round_: replayed(now, j), 0.0)
    stored = len(rounds) * len(case.users) / case.replicates * case.models.size * NUMBER_BYTES
    yield Moment(len(rounds), models.unsqueeze(1), **account(case, watch, server), stored=stored)


def sisa(case: Case, request: RequestSpec) -> Iterator[Moment]:
    """Groups of users are federations of their own, which vote by their mean posterior; user 0's group trains again
    from scratch on what stays. Step 0 is the vote before: SISA starts from models of its own.

    Deviation: shards are groups of users, one slice each; SISA knows no users. A group that nothing is left of has no
    vote.
    """
    shards = np.array_split(np.arange(case.spec.data.users), request.shards)
    group = {int(number): shard for shard, numbers in enumerate(shards) for number in numbers}
    placed = [replace(user, federation=user.federation * request.shards + group[user.number]) for user in case.users]
    initial = case.initial.repeat_interleave(request.shards, 0)
    trained = case.federations(placed, "sisa").train(initial, Server()).unflatten(0, (case.replicates, -1))
    yield Moment(0, trained)

    again = [case.remaining(user) for user in case.users if group[user.number] == group[TARGET]]
    again = [user for user in again if len(user.rows)]
    watch, server = Watch(), Server()
    rest = trained[:, 1:]
    if again:
        federations = case.federations(again, "sisa-again")
        new = watch.timed(lambda: federations.train(case.initial, server), work_share(case, again))
        rest = torch.cat([new.unsqueeze(1), rest], 1)
    stored = request.shards * case.models.size * NUMBER_BYTES
    yield Moment(case.spec.training.rounds, rest, **account(case, watch, server), stored=stored)
