"""The whole model: a batch -> emotion logits, cause logits, pair logits."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rpcl_jax.data.dialogue import EMOTIONS
from rpcl_jax.models.fusion import (
    FusionBackbone,
    pack_utterances,
    pool_utterances,
    unpack_pairs,
)
from rpcl_jax.models.pair_scorer import PairScorer
from rpcl_jax.models.text_encoder import TextEncoder, TextEncoderConfig


class Outputs(NamedTuple):
    """What the backbone and the scorer say of b dialogues of n utterances."""

    utterances: jax.Array  # h, [b, n, width], 0 where there is no utterance
    emotion_logits: jax.Array  # [b, n, emotions]
    cause_logits: jax.Array  # [b, n, 2]
    pair_logits: jax.Array  # [b, n, n, 2]


class PairExtractor(nn.Module):
    """Backbone {x_t} -> {h_t}, utterance heads and pair scorer (METHOD.md, "Backbone")."""

    encoder: TextEncoderConfig | None  # None: frozen, `batch.text` holds its utterance vectors
    modalities: str
    width: int
    heads: int
    fusion_layers: int
    scorer_layers: int
    pair_width: int
    dropout: float
    dtype: jnp.dtype = jnp.float32  # of the text encoder's activations

    def setup(self):
        """Names the four parts; `text_encoder` is the group with a learning rate of its own."""
        if self.encoder is not None:
            self.text_encoder = TextEncoder(self.encoder, dtype=self.dtype)
        self.fusion = FusionBackbone(
            self.modalities, self.width, self.heads, self.fusion_layers, self.dropout
        )
        self.emotion_head = nn.Dense(len(EMOTIONS))
        self.cause_head = nn.Dense(2)
        self.pair_scorer = PairScorer(
            self.width, self.heads, self.scorer_layers, self.pair_width, self.dropout
        )

    def __call__(self, batch, *, deterministic: bool = True) -> Outputs:
        """Scores the dialogues of a `rpcl_jax.data.batch.Batch`."""
        b, n = batch.utterance_mask.shape
        pooled = text = batch.text
        if self.encoder is not None:
            words = self.text_encoder(
                text.token_ids, text.segment_ids, text.position_ids, deterministic=deterministic
            )
            pooled = pool_utterances(words, text.utterance_ids, b * n).reshape(b, n, -1)
        slots, places = batch.dialogue_rows
        features = {"audio": batch.audio, "vision": batch.vision}
        packed = self.fusion(
            pack_utterances(pooled, slots),
            {name: pack_utterances(x, slots) for name, x in features.items() if x is not None},
            slots // n,
            pack_utterances(batch.speakers, slots),
            deterministic=deterministic,
        )
        h = pack_utterances(packed, places)
        return Outputs(
            utterances=h,
            emotion_logits=self.emotion_head(h),
            cause_logits=self.cause_head(h),
            pair_logits=self.score_pairs(h, batch, deterministic=deterministic),
        )

    def score_pairs(self, h, batch, *, deterministic: bool = True) -> jax.Array:
        """Pair logits [b, n, n, 2] of any utterance representations, clean or corrupted."""
        slots, places = batch.dialogue_rows
        logits = self.pair_scorer(
            pack_utterances(h, slots),
            slots // h.shape[1],
            pack_utterances(batch.speakers, slots),
            deterministic=deterministic,
        )
        return unpack_pairs(logits, places)
