"""The bidirectional GRU against PyTorch's, which is given padded dialogues and their lengths."""

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from shared import import_or_skip

from rpcl_jax.batching.packing import pack_dialogues
from rpcl_jax.models.packed import pack_utterances
from rpcl_jax.models.recurrent import BidirectionalGRU
from rpcl_jax.training.mesh import AXIS, make_mesh

torch = import_or_skip("torch")

LENGTHS, N, STREAMS, FEATURES, SIZE = [3, 5, 2, 1], 5, 2, 4, 3


def torch_gru(params, stream):
    """PyTorch's bidirectional GRU with the parameters of a stream."""
    gru = torch.nn.GRU(FEATURES, SIZE, batch_first=True, bidirectional=True)
    for direction, suffix in enumerate(("", "_reverse")):
        p = {name: value[direction, stream] for name, value in params.items()}
        hidden = np.concatenate([np.zeros(2 * SIZE, np.float32), p["bias_candidate"][0]])
        for name, value in (
            ("weight_ih", p["kernel"].T),
            ("weight_hh", p["recurrent"].T),
            ("bias_ih", p["bias"][0]),
            ("bias_hh", hidden),
        ):
            getattr(gru, f"{name}_l0{suffix}").data = torch.tensor(value)
    return gru


@pytest.mark.slow
def test_packed_in_rows_it_is_pytorchs_on_each_dialogue():
    rng = np.random.default_rng(0)
    dialogues = rng.normal(size=(STREAMS, len(LENGTHS), N, FEATURES)).astype(np.float32)
    rows = pack_dialogues(LENGTHS, [[1], [0, 2], [3]], len(LENGTHS), 3, N)
    ids = rows.slots // N
    assert ids.tolist() == [[1] * 5, [0, 0, 0, 2, 2], [3, 4, 4, 4, 4]], "two share a row"
    packed = np.stack([pack_utterances(stream, rows.slots) for stream in dialogues])
    packed[:, 2, 1:] = 1e3  # no dialogue's
    module = BidirectionalGRU(2 * SIZE)
    shapes = jax.eval_shape(module.init, jax.random.key(0), packed, ids)["params"]
    params = {k: rng.normal(0, 0.7, v.shape).astype(np.float32) for k, v in shapes.items()}
    found = module.apply({"params": params}, packed, ids)
    for stream in range(STREAMS):
        sequences = torch.nn.utils.rnn.pack_padded_sequence(
            torch.tensor(dialogues[stream]), LENGTHS, batch_first=True, enforce_sorted=False
        )
        states, _ = torch_gru(params, stream)(sequences)
        wanted, _ = torch.nn.utils.rnn.pad_packed_sequence(states, batch_first=True)
        unpacked = pack_utterances(found[stream], rows.places)
        np.testing.assert_allclose(unpacked, wanted.detach().numpy(), atol=1e-5)


@pytest.mark.slow
def test_the_gradient_over_two_devices_is_that_of_one():
    """The state of its loop begins as a constant, which `shard_map` tells from what varies."""
    rng = np.random.default_rng(0)
    x, ids = rng.normal(size=(1, 4, 3, 2)).astype(np.float32), np.zeros((4, 3), int)
    module = BidirectionalGRU(2)
    shapes = jax.eval_shape(module.init, jax.random.key(0), x, ids)["params"]
    params = {k: rng.normal(0, 0.7, v.shape).astype(np.float32) for k, v in shapes.items()}

    def gradient(params, x, ids, axis=None):
        def loss(params):
            total = (module.apply({"params": params}, x, ids) ** 2).sum()
            return jax.lax.psum(total, axis) if axis else total

        return jax.grad(loss)(params)

    sharded = jax.shard_map(
        lambda *inputs: gradient(*inputs, AXIS),
        mesh=make_mesh(2), in_specs=(P(), P(None, AXIS), P(AXIS)), out_specs=P(),
    )  # fmt: skip
    for one, two in zip(
        gradient(params, x, ids).values(), jax.jit(sharded)(params, x, ids).values(), strict=True
    ):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)
