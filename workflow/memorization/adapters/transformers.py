"""Causal language models of the `transformers` library, with their own tokenizers, behind the stepping protocol.

No key-value cache: see `HistoryModel`. The library is imported only when a model is wrapped.
"""

from typing import Any

import numpy as np

from memorization.adapters.histories import HistoryModel
from memorization.canaries import CHECKED, CanaryFormat, TokenFormat
from memorization.errors import UserError

CHECKED_FILLS = 500
"""Fills whose tokens are compared with the tokenizer's own; of smaller formats all are."""


def causal_model(model: Any, tokenizer: Any, context: str = "\n") -> HistoryModel:
    """A `backends.base.LanguageModel` of `model`, a transformers causal language model, and its `tokenizer`.

    context  what stands before a canary when it is scored, as in training: a line end, or tokenizer.bos_token

    The model is put into evaluation mode. Raises UserError for a model that is not causal.
    """
    import torch
    import transformers

    if not isinstance(model, transformers.PreTrainedModel) or model.config.is_encoder_decoder:
        raise UserError("model: a causal language model of transformers is needed, such as GPT2LMHeadModel")
    model.eval()
    longest = getattr(model.config, "max_position_embeddings", None)

    @torch.inference_mode()
    def logits(tokens: np.ndarray) -> np.ndarray:
        if longest is not None and tokens.shape[1] > longest:
            raise UserError(
                f"model: reads at most {longest} tokens, the canary has {tokens.shape[1]}: shorten the format"
            )
        read = model(input_ids=torch.as_tensor(tokens, device=model.device), use_cache=False)
        return read.logits.double().cpu().numpy()

    return HistoryModel(logits, TokenizerVocabulary(tokenizer, context, model.config.vocab_size))


class TokenizerVocabulary:
    """What `canaries` asks of a vocabulary, by a transformers tokenizer."""

    words = ()
    unit = "token"

    def __init__(self, tokenizer: Any, context: str, size: int) -> None:
        self._tokenizer, self._context, self._size = tokenizer, context, size

    def __len__(self) -> int:
        return self._size

    def encode(self, text: str, what: str = "text") -> np.ndarray:
        """int64[t] tokens of `text`, without special ones."""
        return np.array(self._tokenizer.encode(text, add_special_tokens=False), dtype=np.int64)

    def token_format(self, canary: CanaryFormat) -> TokenFormat:
        """The format in this tokenizer's tokens: every hole must be one token, whatever fills it and its neighbours.

        Found by tokenising whole canaries, as training did: pieces tokenised one by one may come out otherwise. Raises
        UserError where a hole is no token of its own, for example because digits that follow one another are merged.
        """
        if CHECKED in canary.text:
            raise UserError(f"canary format {canary.text!r}: {{k}} is not for tokenizers; leave it out")
        base = self._whole(canary, np.zeros(len(canary.holes), dtype=np.int64))
        places, holes = [], []
        for hole, symbols in enumerate(canary.holes):
            place, tokens = self._hole(canary, base, hole, len(symbols))
            places.append(place)
            holes.append(tokens)
        if sorted(set(places)) != places or not places[0]:
            raise self._merged(canary)
        ends = [*places[1:], len(base)]
        after = tuple(base[place + 1 : end] for place, end in zip(places, ends, strict=True))
        found = TokenFormat(prefix=base[: places[0]], holes=tuple(holes), after=after)
        for fill in canary.sample(np.random.default_rng(0), min(CHECKED_FILLS, canary.size)):
            if not np.array_equal(found.ids(fill)[0], self._whole(canary, fill)):
                raise self._merged(canary)
        return found

    def _whole(self, canary: CanaryFormat, fill: np.ndarray) -> np.ndarray:
        return self.encode(self._context + canary.render(fill))

    def _hole(self, canary: CanaryFormat, base: np.ndarray, hole: int, symbols: int) -> tuple[int, np.ndarray]:
        """(which token of `base` the hole is, int64[symbols] the tokens that may stand there)."""
        whole = []
        for symbol in range(symbols):
            fill = np.zeros(len(canary.holes), dtype=np.int64)
            fill[hole] = symbol
            whole.append(self._whole(canary, fill))
        if any(len(ids) != len(base) for ids in whole):
            raise self._merged(canary)
        differs = np.flatnonzero((np.stack(whole) != base).any(axis=0))
        if len(differs) != 1:
            raise self._merged(canary)
        tokens = np.stack(whole)[:, differs[0]]
        if len(np.unique(tokens)) != symbols:
            raise self._merged(canary)
        return int(differs[0]), tokens

    @staticmethod
    def _merged(canary: CanaryFormat) -> UserError:
        return UserError(
            f"canary format {canary.text!r}: every hole must be one token of this tokenizer; put a space before each, "
            "as in 'the code is {d} {d} {d}', and plant canaries written so"
        )
