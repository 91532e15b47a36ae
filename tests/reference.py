"""The losses by loops over float64 NumPy numbers, and random batches to compute them on."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from rpcl_jax import losses

B, N, EMOTIONS = 5, 5, 4
LENGTHS = (5, 4, 5, 1, 0)


# The reference: what the equations say, one candidate at a time.


def softmax(z):
    e = np.exp(z - z.max())
    return e / e.sum()


def reference_cross_entropy(logits, labels, mask):
    terms = [
        np.log(np.exp(logits[c] - logits[c].max()).sum()) + logits[c].max() - logits[c][labels[c]]
        for c in np.ndindex(mask.shape)
        if mask[c]
    ]
    return sum(terms) / len(terms) if terms else 0.0


def reference_supervised(batch):
    return (
        reference_cross_entropy(batch["emotion"], batch["emotion_labels"], batch["utterances"])
        + reference_cross_entropy(batch["cause"], batch["cause_labels"], batch["utterances"])
        + reference_cross_entropy(batch["pair"], batch["labels"], batch["candidates"])
    )


def reference_triples(batch, top_k, m0, adaptive):
    """Ω with the margin of each: [(dialogue, i, j+, j-, margin)], the part without a gradient."""
    triples = []
    for d, i in np.ndindex(batch["labels"].shape[:2]):
        row = [j for j in range(batch["labels"].shape[2]) if batch["candidates"][d, i, j]]
        p = {j: softmax(batch["pair"][d, i, j])[1] for j in row}
        negatives = [j for j in row if not batch["labels"][d, i, j]]
        hard = sorted(negatives, key=lambda j: (-p[j], j))[:top_k]
        for positive in (j for j in row if batch["labels"][d, i, j]):
            for negative in hard:
                q = [softmax(batch["cause"][d, j])[1] for j in (negative, positive)]
                margin = m0 * np.exp(q[0] - q[1]) if adaptive else m0
                triples.append((d, i, positive, negative, margin))
    return triples


def reference_cdmr(batch, triples):
    def p(*cell):
        return softmax(batch["pair"][cell])[1]

    terms = [max(0.0, m - (p(d, i, pos) - p(d, i, neg))) for d, i, pos, neg, m in triples]
    return sum(terms) / len(terms) if terms else 0.0


def reference_ccps(batch, clean, corruption_weight, alignment_weight):
    cells = [c for c in np.ndindex(clean.shape[:3]) if batch["candidates"][c]]
    squares = [((softmax(batch["corrupted"][c]) - softmax(clean[c])) ** 2).sum() for c in cells]
    return corruption_weight * reference_cross_entropy(
        batch["corrupted"], batch["labels"], batch["candidates"]
    ) + alignment_weight * (sum(squares) / len(squares) if squares else 0.0)


def differences(function, batch, name, step=1e-5):
    """Central differences of `function(batch)` for every number of `batch[name]`."""
    gradient = np.zeros(batch[name].shape)
    for c in np.ndindex(gradient.shape):
        values = []
        for sign in (1, -1):
            moved = batch[name].copy()
            moved[c] += sign * step
            values.append(function(batch | {name: moved}))
        gradient[c] = (values[0] - values[1]) / (2 * step)
    return gradient


# Batches, and the functions under test as functions of one.


def make_batch(seed, candidates="past", tied=False, lengths=LENGTHS):
    """A random batch in float64; its masked cells hold valid numbers."""
    rng = np.random.default_rng(seed)
    b = len(lengths)
    utterances = np.arange(N) < np.array(lengths)[:, None]
    mask = utterances[:, :, None] & utterances[:, None, :]
    if candidates == "past":
        mask = np.tril(mask)
    elif candidates == "random":
        mask &= rng.random(mask.shape) < 0.7
    labels = rng.random((b, N, N)) < 0.3
    labels[0, 1] = True  # a row with nothing but gold
    labels[0, 2] = False  # and one with none
    batch = {
        "emotion": rng.normal(size=(b, N, EMOTIONS)),
        "cause": 2 * rng.normal(size=(b, N, 2)),
        "pair": 2 * rng.normal(size=(b, N, N, 2)),
        "corrupted": 2 * rng.normal(size=(b, N, N, 2)),
        "emotion_labels": rng.integers(EMOTIONS, size=(b, N)),
        "cause_labels": rng.integers(2, size=(b, N)),
        "labels": labels.astype(int),
        "utterances": utterances,
        "candidates": mask,
    }
    if tied:
        batch["pair"] = np.stack(
            [np.zeros((b, N, N)), rng.integers(-1, 2, size=(b, N, N)).astype(float)], axis=-1
        )
    # Both sides start from the same float32 numbers.
    return {k: x.astype(np.float32).astype(x.dtype) for k, x in batch.items()}


def supervised(batch, axis_name=None):
    return losses.supervised_loss(
        batch["emotion"],
        batch["cause"],
        batch["pair"],
        batch["emotion_labels"],
        batch["cause_labels"],
        batch["labels"],
        batch["utterances"],
        batch["candidates"],
        axis_name=axis_name,
    )


def cdmr(batch, axis_name=None, **options):
    return losses.cdmr_loss(
        batch["pair"],
        batch["cause"],
        batch["labels"],
        batch["candidates"],
        axis_name=axis_name,
        **options,
    )


def ccps(batch, axis_name=None, **options):
    return losses.ccps_loss(
        batch["corrupted"],
        batch["pair"],
        batch["labels"],
        batch["candidates"],
        axis_name=axis_name,
        **options,
    )


# The margin is wide so that many triples violate it, k = 2 so that most rows have more negatives.
TERMS = {
    "supervised": supervised,
    "cdmr": partial(cdmr, top_k=2, base_margin=0.5),
    "cdmr_all": partial(cdmr, top_k=None, base_margin=0.5),
    "ccps": ccps,
}
LOGITS = ("emotion", "cause", "pair", "corrupted")


def to_jax(batch):
    return {
        k: jnp.asarray(x, jnp.float32 if x.dtype.kind == "f" else None) for k, x in batch.items()
    }


@jax.jit
def all_terms(batch):
    """Every loss and its gradient with respect to all logits."""
    results = {}
    for name, term in TERMS.items():
        results[name] = jax.value_and_grad(lambda logits, term=term: term(batch | logits))(
            {k: batch[k] for k in LOGITS}
        )
    return results


def close(actual, wanted, tolerance=2e-6):
    np.testing.assert_allclose(np.asarray(actual), wanted, rtol=0, atol=tolerance)


def same(actual, wanted):
    """Equal bit for bit, and no NaN."""
    for a, w in zip(jax.tree.leaves(actual), jax.tree.leaves(wanted), strict=True):
        assert np.isfinite(np.asarray(a)).all()
        np.testing.assert_array_equal(np.asarray(a), np.asarray(w))
