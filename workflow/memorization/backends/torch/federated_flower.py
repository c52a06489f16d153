"""The same federations over Flower (flwr.ai): its messages, its server and its averaging, for those who outgrow one
machine. Optional: envs/flower says how to install and start it.

A user is a function from the global model and the round to what it sends back as its local model; its batches are those
of the in-process engine, so that both give the same global model up to the order of sums. A user who forgets sends the
global model less its dummy gradient: Flower's server cannot tell, and is not changed.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from memorization import federated_models, runs
from memorization import weights as weight_files
from memorization.backends.torch.federated import User
from memorization.backends.torch.forsaken import Generator
from memorization.backends.torch.holdings import Holdings

Fit = Callable[[np.ndarray, int], np.ndarray]
"""Global model float32[P] and round 1, 2, ... -> local model float32[P]."""
Node = tuple[Fit, int]
"""What a user does, and how many examples it holds."""
MODEL = "model"
"""Name of the one array in every message."""


def ordinary(holdings: Holdings, user: User, purpose: str) -> Node:
    """A user who trains, as in `federated.Federations`."""
    alone = holdings.federations([replace(user, federation=0)], purpose)

    def fit(model: np.ndarray, round_: int) -> np.ndarray:
        row = torch.from_numpy(model).to(holdings.device).unsqueeze(0)
        return (row - alone.uploads(row, round_))[0].cpu().numpy()

    return fit, len(user.rows)


def forgetting(generator: Generator, examples: int, device: torch.device) -> Node:
    """A user who sends dummy gradients in the slot of its ordinary update. `generator`: of one replicate."""

    def fit(model: np.ndarray, round_: int) -> np.ndarray:
        row = torch.from_numpy(model).to(device).unsqueeze(0)
        return (row - generator.emit(row))[0].cpu().numpy()

    return fit, examples


def client_app(node_of: Callable[[Context], Node]) -> ClientApp:
    """What runs at every user; `node_of` says who it is."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        fit, examples = node_of(context)
        model = message.content["arrays"][MODEL].numpy()
        local = fit(model, int(message.content["config"]["server-round"]))
        content = {"arrays": _record(local), "metrics": MetricRecord({"num-examples": examples})}
        return Message(RecordDict(content), reply_to=message)

    return app


def serve(grid: Grid, model: np.ndarray, users: int, rounds: int) -> np.ndarray:
    """The global model float32[P] after so many rounds of Flower's own FedAvg, all users in every round."""
    logging.getLogger("flwr").setLevel(logging.WARNING)
    strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=users, min_available_nodes=users)
    result = strategy.start(grid, _record(model), num_rounds=rounds, train_config=ConfigRecord())
    return result.arrays[MODEL].numpy()


def _record(model: np.ndarray) -> ArrayRecord:
    return ArrayRecord({MODEL: Array(np.ascontiguousarray(model))})


class InProcess(Grid):
    """Flower's messages without a network: every node's ClientApp is called in turn, and messages go through Flower's
    records as they would through its wire.
    """

    def __init__(self, app: ClientApp, nodes: Sequence[int]) -> None:
        # Messages ask which task they belong to; a started Flower process knows.
        TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 0
        self._contexts = {
            node: Context(run_id=0, node_id=node, node_config={"partition-id": node}, state=RecordDict(), run_config={})
            for node in nodes
        }
        self._app = app
        self._run = Run.create_empty(run_id=0)
        self._replies: dict[str, Message] = {}
        self._numbers = count()

    def set_run(self, run: Run) -> None:
        """The run that messages belong to."""
        self._run = run

    @property
    def run(self) -> Run:
        """As set; an empty one before."""
        return self._run

    def create_message(self, content, message_type, dst_node_id, group_id, ttl=None) -> Message:
        """A message to a node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """The nodes."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Every message is answered at once; returns where `pull_messages` finds the replies."""
        places = []
        for message in messages:
            places.append(str(next(self._numbers)))
            self._replies[places[-1]] = self._app(message, self._contexts[message.metadata.dst_node_id])
        return places

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies to pushed messages; KeyError where none was pushed."""
        return [self._replies[place] for place in message_ids]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Every node's reply; nothing is kept."""
        places = self.push_messages(messages)
        return [self._replies.pop(place) for place in places]


def train_in_process(nodes: Mapping[int, Node], model: np.ndarray, rounds: int) -> np.ndarray:
    """The global model float32[P] after so many rounds of `nodes` (number of a node, from 1, -> what it does)."""
    app = client_app(lambda context: nodes[int(context.node_config["partition-id"])])
    return serve(InProcess(app, list(nodes)), model, len(nodes), rounds)


def _holdings(context: Context) -> tuple[Holdings, int]:
    """Of `flwr run`: the data by its settings `spec` and `data` (paths) and `replicate`, the same at every node."""
    config = context.run_config
    spec = runs.read_spec(Path(str(config["spec"])))
    shares = runs.training_material(spec, Path(str(config["data"])), runs.dataset_of(spec))
    return Holdings(spec, shares, torch.device("cpu")), int(config["replicate"])


def _deployed(context: Context) -> Node:
    """The user whose number is the node's partition."""
    holdings, replicate = _holdings(context)
    number = int(context.node_config["partition-id"])
    own = next(u for u in holdings.users if (u.replicate, u.number) == (replicate, number))
    return ordinary(holdings, own, "train")


client = client_app(_deployed)
"""For `flwr run`."""
server = ServerApp()
"""For `flwr run`: writes the trained model into the folder that its setting `run` names."""


@server.main()
def main(grid: Grid, context: Context) -> None:
    """Train one replicate's federation."""
    holdings, replicate = _holdings(context)
    spec, models = holdings.spec, holdings.models
    vector = serve(grid, holdings.initial()[replicate].numpy(), spec.data.users, spec.training.rounds)
    stacked = federated_models.arrays(models.spec, models.inputs, models.classes, vector[None])
    weight_files.save(stacked, Path(str(context.run_config["run"])))
