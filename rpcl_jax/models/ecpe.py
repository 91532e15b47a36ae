"""The complete model: from a batch to emotion, cause and pair logits."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rpcl_jax.batching.batch import Batch, TextVectors
from rpcl_jax.models.graph import GraphBackbone, GraphScorer
from rpcl_jax.models.hilo import HiloBackbone, HiloScorer
from rpcl_jax.models.packed import encode_utterances, pack_utterances, unpack_pairs
from rpcl_jax.models.text_encoder import TextEncoder, TextEncoderConfig
from rpcl_jax.models.transformer import TransformerBackbone, TransformerScorer
from rpcl_jax.models.two_step import TwoStepBackbone, TwoStepScorer

# From the modalities to h, and from h to pair logits; all with the fields and the signatures of the
# first pair. h may be twice `width` wide: then its halves are an emotion and a cause vector, and
# neither utterance head sees the other's. docs/method.md, "Backbones", describes them.
BACKBONES: dict[str, tuple[type[nn.Module], type[nn.Module]]] = {
    "transformer": (TransformerBackbone, TransformerScorer),
    "hilo": (HiloBackbone, HiloScorer),
    "two_step": (TwoStepBackbone, TwoStepScorer),
    "graph": (GraphBackbone, GraphScorer),
}


BACKBONE = "fusion"  # the name of the backbone's parameters in a model


class Outputs(NamedTuple):
    """What the backbone and the scorer return for b dialogues of n utterances."""

    h: jax.Array  # utterance representations, [b, n, width or 2 · width], 0 in the padding
    emotion_logits: jax.Array  # [b, n, emotions]
    cause_logits: jax.Array  # [b, n, 2]
    pair_logits: jax.Array  # [b, n, n, 2]


class PairExtractor(nn.Module):
    """Backbone, utterance heads and pair scorer; docs/method.md, "Backbones", describes them."""

    encoder: TextEncoderConfig  # without parameters if batches hold a frozen encoder's vectors
    modalities: str
    emotions: int  # number of classes of the emotion head
    backbone: str  # a name in BACKBONES
    width: int
    heads: int
    fusion_layers: int
    scorer_layers: int
    pair_width: int
    dropout: float
    dtype: jax.typing.DTypeLike = jnp.float32  # of the text encoder's activations

    def setup(self):
        """Names the parts; `text_encoder` is the parameter group with its own learning rate."""
        self.text_encoder = TextEncoder(self.encoder, dtype=self.dtype)
        backbone, scorer = BACKBONES[self.backbone]
        # The names of the parts are those of the parameters in every checkpoint; see BACKBONE.
        self.fusion = backbone(
            self.modalities, self.width, self.heads, self.fusion_layers, self.dropout
        )
        self.emotion_head = nn.Dense(self.emotions)
        self.cause_head = nn.Dense(2)
        self.pair_scorer = scorer(
            self.width, self.heads, self.scorer_layers, self.pair_width, self.dropout
        )

    def __call__(self, batch: Batch, *, deterministic: bool = True) -> Outputs:
        """Returns the outputs for the dialogues of a batch, clean view."""
        if isinstance(batch.text, TextVectors):
            text = batch.text.vectors
        else:
            text = encode_utterances(
                lambda *ids: self.text_encoder(*ids, deterministic=deterministic), batch
            )
        slots, places = batch.dialogue_rows
        features = {"audio": batch.audio, "vision": batch.vision}
        packed = self.fusion(
            pack_utterances(text, slots),
            jax.tree.map(lambda x: pack_utterances(x, slots), features),
            slots // text.shape[1],
            pack_utterances(batch.speakers, slots),
            deterministic=deterministic,
        )
        h = pack_utterances(packed, places)
        emotion, cause = jnp.split(h, 2, -1) if h.shape[-1] == 2 * self.width else (h, h)
        return Outputs(
            h=h,
            emotion_logits=self.emotion_head(emotion),
            cause_logits=self.cause_head(cause),
            pair_logits=self.score_pairs(h, batch, deterministic=deterministic),
        )

    def score_pairs(self, h, batch: Batch, *, deterministic: bool = True) -> jax.Array:
        """Returns pair logits [b, n, n, 2] of utterance representations h, clean or corrupted."""
        slots, places = batch.dialogue_rows
        logits = self.pair_scorer(
            pack_utterances(h, slots),
            slots // h.shape[1],
            pack_utterances(batch.speakers, slots),
            deterministic=deterministic,
        )
        return unpack_pairs(logits, places)
