"""A bidirectional recurrent layer over packed dialogues."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class BidirectionalGRU(nn.Module):
    """Reads every dialogue forwards and backwards, each with a gated recurrent unit (GRU).

    Several streams, such as modalities, are read side by side in one loop over the n places, each
    with parameters of its own. A row may hold several dialogues: the state is 0 at the beginning
    of each.
    """

    width: int  # of the result, even: half of it comes from either direction

    @nn.compact
    def __call__(self, x, dialogue_ids):
        """Maps x [streams, rows, n, d] to [streams, rows, n, width]; ids are int [rows, n]."""
        streams, rows, _, d = x.shape
        size = self.width // 2
        # The last axis holds the reset gate, the update gate and the candidate, as in PyTorch.
        initial = nn.initializers.lecun_normal(batch_axis=(0, 1))
        kernel = self.param("kernel", initial, (2, streams, d, 3 * size))
        bias = self.param("bias", nn.initializers.zeros, (2, streams, 1, 3 * size))
        recurrent = self.param("recurrent", initial, (2, streams, size, 3 * size))
        bias_candidate = self.param("bias_candidate", nn.initializers.zeros, (2, streams, 1, size))

        border = jnp.ones((1, rows), bool)
        border = jnp.concatenate([border, (jnp.diff(dialogue_ids) != 0).T, border])
        begins = _in_reading_order(jnp.stack([border[:-1], border[1:]], 1))[:, :, None, :, None]
        inputs = _in_reading_order(jnp.einsum("srnd,ksdg->nksrg", x, kernel) + bias)

        def step(state, place):
            begins, inputs = place
            state = jnp.where(begins, 0.0, state)
            hidden = jnp.einsum("ksrh,kshg->ksrg", state, recurrent)
            gates = nn.sigmoid(inputs[..., : 2 * size] + hidden[..., : 2 * size])
            reset, update = jnp.split(gates, 2, -1)
            candidate = hidden[..., 2 * size :] + bias_candidate
            candidate = jnp.tanh(inputs[..., 2 * size :] + reset * candidate)
            state = candidate + update * (state - candidate)
            return state, state

        _, states = jax.lax.scan(step, jnp.zeros_like(inputs[0, ..., :size]), (begins, inputs))
        return jnp.einsum("nksrh->srnkh", _in_reading_order(states)).reshape(*x.shape[:3], -1)


def _in_reading_order(x: jax.Array) -> jax.Array:
    """Reverses the places of the second direction of x [n, 2, …]; doing it twice undoes it."""
    return jnp.stack([x[:, 0], x[::-1, 1]], axis=1)
