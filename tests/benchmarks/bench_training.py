"""Training and stepping speed of the PyTorch back end against what a user would write: nn.LSTM and torch.optim.

    PYTHONPATH=workflow OMP_NUM_THREADS=1 envs/torch/.venv/bin/python tests/benchmarks/bench_training.py

Prints characters (states) per second and, in the last column, the ratio to the plain loop measured in the same run.
Both are timed in turns, so that a busy machine slows both.
"""

import argparse
import time

import numpy as np
import torch
from memorization import weights as weights_module
from memorization.backends.torch.lstm import Workspace, losses
from memorization.specs import ModelSpec
from torch import nn

VOCABULARY, LENGTH = 50, 100


class Plain(nn.Module):
    """The same model with nn.LSTM."""

    def __init__(self, model: ModelSpec):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, model.embedding)
        self.lstm = nn.LSTM(model.embedding, model.units, model.layers)
        self.output = nn.Linear(model.units, VOCABULARY)

    def forward(self, ids):
        return self.output(self.lstm(self.embedding(ids))[0])


def plain_loop(model, batch, device):
    module = Plain(model).to(device)
    optimizer = torch.optim.RMSprop(module.parameters(), lr=1e-3)
    ids = torch.randint(VOCABULARY, (2, LENGTH, batch), device=device)

    def step():
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(ids[0]).flatten(0, 1), ids[1].flatten()).backward()
        nn.utils.clip_grad_norm_(module.parameters(), 5.0)
        optimizer.step()

    return step
