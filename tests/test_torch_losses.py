"""The losses in PyTorch against those in JAX and against a plain port, and what trainers do."""

import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import LOGITS, all_terms, make_batch, to_jax
from shared import import_or_skip, refusal

torch = import_or_skip("torch")
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from rpcl_jax import corruption, torch_losses
from rpcl_jax.torch_losses import ccps_loss, cdmr_loss, corrupt_context, gold_utterances

# The plain port: what someone writes who reads the paper and knows only PyTorch.


def port_cdmr(logits, cause_logits, labels, candidates, top_k=8, base_margin=0.05):
    p, q = logits.softmax(-1)[..., 1], cause_logits.detach().softmax(-1)[..., 1]
    gold, negatives = candidates & (labels == 1), candidates & (labels != 1)
    terms = []
    for d, i, j in gold.nonzero().tolist():
        columns = negatives[d, i].nonzero()[:, 0]
        hardest = columns[p[d, i, columns].argsort(descending=True, stable=True)[:top_k]]
        margin = base_margin * (q[d, hardest] - q[d, j]).exp()
        terms.append((margin - (p[d, i, j] - p[d, i, hardest])).relu())
    return torch.cat(terms).mean()


def port_ccps(corrupted, clean, labels, candidates):
    corrupted, clean = corrupted[candidates], clean[candidates].detach()
    distance = (corrupted.softmax(-1) - clean.softmax(-1)).square().sum(-1).mean()
    return 0.75 * cross_entropy(corrupted, labels[candidates].long()) + 0.2 * distance


ON_DEVICES = pytest.mark.parametrize("device", ["cpu"] + ["cuda"] * torch.cuda.is_available())


def example(b=5, n=7, dtype=torch.float32, seed=0, device="cpu"):
    """Leaves that require a gradient: pair, corrupted and cause logits; labels and candidates."""
    random = torch.Generator().manual_seed(seed)
    logits = [
        torch.randn(shape, generator=random, dtype=torch.float64).to(device, dtype).requires_grad_()
        for shape in ((b, n, n, 2), (b, n, n, 2), (b, n, 2))
    ]
    labels = (torch.rand(b, n, n, generator=random) < 0.25).long().to(device)
    candidates = torch.ones(n, n, dtype=torch.bool, device=device).tril().repeat(b, 1, 1)
    return *logits, labels, candidates


def both(pair, corrupted, cause, labels, candidates):
    return cdmr_loss(pair, cause, labels, candidates, base_margin=0.5) + ccps_loss(
        corrupted, pair, labels, candidates
    )


def gradients(loss, *leaves):
    return [g.double().cpu().numpy() for g in torch.autograd.grad(loss, leaves)]


def close(actual, wanted, tolerance=1e-6):
    for a, w in zip(actual, wanted, strict=True):
        np.testing.assert_allclose(a, w, rtol=0, atol=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("candidates", ["past", "random"])
def test_equal_to_jax(candidates):
    batch = make_batch(0, candidates, tied=True)
    wanted = all_terms(to_jax(batch))
    x = {k: torch.tensor(v, dtype=torch.float32) for k, v in batch.items()}  # labels 0.0 and 1.0
    for name in LOGITS:
        x[name].requires_grad_()
    masks = x["labels"], x["candidates"]
    terms = {
        "cdmr": cdmr_loss(x["pair"], x["cause"], *masks, top_k=2, base_margin=0.5),
        "cdmr_all": cdmr_loss(x["pair"], x["cause"], *masks, top_k=None, base_margin=0.5),
        "ccps": ccps_loss(x["corrupted"], x["pair"], *masks),
    }
    for name, loss in terms.items():
        value, gradient = wanted[name]
        leaf = "corrupted" if name == "ccps" else "pair"
        assert loss.dtype == torch.float32
        close([loss.detach(), *gradients(loss, x[leaf])], [value, gradient[leaf]])
        others = [x[k] for k in LOGITS if k != leaf]
        assert torch.autograd.grad(loss + 0, others, allow_unused=True) == (None,) * 3, "detached"


def test_options_are_those_of_jax():
    pair, corrupted, cause, labels, candidates = example()
    fixed = cdmr_loss(pair, cause, labels, candidates, base_margin=0.3, adaptive_margin=False)
    same_q = cdmr_loss(pair, torch.zeros_like(cause), labels, candidates, base_margin=0.3)
    assert fixed.item() == pytest.approx(same_q.item(), abs=1e-7)
    weighted = ccps_loss(
        corrupted, pair, labels, candidates, corruption_weight=2.0, alignment_weight=0.0
    )
    wanted = 2 * cross_entropy(corrupted[candidates], labels[candidates])
    assert weighted.item() == pytest.approx(wanted.item(), abs=1e-6)


@ON_DEVICES
def test_equal_to_a_plain_port_in_float64(device):
    pair, corrupted, cause, labels, candidates = example(9, 13, torch.float64, device=device)
    assert cdmr_loss(pair, cause, labels, candidates).item() > 0
    for ours, port, leaf in (
        (cdmr_loss(pair, cause, labels, candidates), port_cdmr(pair, cause, labels, candidates),
         pair),
        (ccps_loss(corrupted, pair, labels, candidates),
         port_ccps(corrupted, pair, labels, candidates), corrupted),
    ):  # fmt: skip
        assert ours.device == leaf.device
        assert ours.item() == pytest.approx(port.item(), abs=1e-6)
        close(gradients(ours, leaf), gradients(port, leaf), tolerance=1e-8)


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.bfloat16, torch.float16, torch.float32], ids=str
)
def test_every_float_type_and_any_strides(dtype):
    pair, corrupted, cause, labels, candidates = example(dtype=dtype)
    wanted = gradients(
        both(pair.float(), corrupted.float(), cause.float(), labels, candidates), pair, corrupted
    )

    def turned(x):  # the same numbers, neither contiguous nor aligned
        x = torch.cat([x[:1], x]).transpose(1, -1).contiguous()
        return x.transpose(1, -1)[1:]

    strange = [turned(x.detach()).requires_grad_() for x in (pair, corrupted, cause)]
    assert not any(x.is_contiguous() for x in strange)
    loss = both(*strange, turned(labels), turned(candidates))
    loss.backward()
    assert strange[0].grad.dtype == dtype
    got = [x.grad.double().numpy() for x in strange[:2]]
    close(got, wanted, tolerance=1e-6 if dtype in (torch.float32, torch.float64) else 2e-4)


def test_a_small_gradient_survives_float16_with_a_scaled_loss():
    _, corrupted, _, labels, candidates = example(b=16, n=16, dtype=torch.float16)
    found = []
    for x in (corrupted, corrupted.float()):  # gradients of about 1e-9, scaled as GradScaler does
        loss = 2.0**16 * ccps_loss(x, x, labels, candidates, corruption_weight=1e-5)
        found.append(torch.autograd.grad(loss, corrupted)[0])
    assert found[0][candidates].count_nonzero() > 0.9 * 2 * candidates.sum()
    torch.testing.assert_close(*found, rtol=1e-2, atol=1e-6)


def test_under_autocast():
    pair, _, cause, labels, candidates = example()
    weight = torch.eye(2, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = pair.detach() @ weight
        assert logits.dtype == torch.bfloat16
        loss = both(logits, logits, cause, labels, candidates)
    loss.backward()
    assert weight.grad.dtype == torch.float32
    plain = torch.eye(2, requires_grad=True)
    both(pair.detach() @ plain, pair.detach() @ plain, cause, labels, candidates).backward()
    torch.testing.assert_close(weight.grad, plain.grad, rtol=0.02, atol=0.01)


def test_masked_cells_may_hold_anything():
    pair, corrupted, cause, labels, candidates = example()
    wanted = gradients(both(pair, corrupted, cause, labels, candidates), pair, corrupted)
    x = [x.detach().masked_fill(~candidates[..., None], torch.nan) for x in (pair, corrupted)]
    x = [x.requires_grad_() for x in x]
    labels = labels.masked_fill(~candidates, -100)
    close(gradients(both(*x, cause, labels, candidates), *x), wanted, tolerance=0)


@pytest.mark.parametrize("b", [0, 3])
def test_nothing_to_average(b):
    pair, corrupted, cause, labels, candidates = example(b=b)
    losses = [
        cdmr_loss(pair, cause, labels * 0, candidates),  # no gold pair
        both(pair, corrupted, cause, labels, candidates & False),
    ]
    for loss in losses:
        loss.backward()
        assert loss.item() == 0
    assert pair.grad.shape == pair.shape
    assert not pair.grad.any()


def test_which_arguments_require_a_gradient():
    pair, corrupted, cause, labels, candidates = example()
    arguments = cause, labels, candidates
    assert not cdmr_loss(pair.detach(), *arguments).requires_grad
    assert not ccps_loss(corrupted.detach(), pair, labels, candidates).requires_grad
    value = cdmr_loss(pair, *arguments)
    for quiet in (torch.no_grad, torch.inference_mode):
        with quiet():
            loss = cdmr_loss(pair, *arguments)
        assert not loss.requires_grad
        assert loss.item() == pytest.approx(value.item(), abs=1e-7)


def test_graphs_that_use_it_twice():
    pair, corrupted, cause, labels, candidates = example()
    loss = both(pair, corrupted, cause, labels, candidates)
    (once,) = gradients(loss, pair)
    loss = both(pair, corrupted, cause, labels, candidates)
    loss += 2 * both(pair, corrupted, cause, labels, candidates)  # in place
    loss.backward(retain_graph=True)
    loss.backward()
    np.testing.assert_allclose(pair.grad, 6 * once, rtol=1e-5, atol=1e-8)
    loss = both(pair, corrupted, cause, labels, candidates)
    with pytest.raises(RuntimeError, match="no second derivatives"):
        torch.autograd.grad(loss, pair, create_graph=True)
    with pytest.raises(RuntimeError, match="functorch"):
        torch.func.grad(lambda x: cdmr_loss(x, cause, labels, candidates))(pair)


@ON_DEVICES
def test_no_memory_is_shared(device):
    """Changed in place, freed and allocated anew, tensors leave loss and gradient as they were."""
    pair, corrupted, cause, labels, candidates = example(8, 8, device=device)  # without padding
    wanted = both(pair, corrupted, cause, labels, candidates)
    (gradient,) = gradients(wanted, pair)
    for _ in range(20):
        x = [x.detach().clone().requires_grad_() for x in (pair, corrupted, cause)]
        masks = labels.clone(), candidates.clone()
        loss = both(*x, *masks)
        with torch.no_grad():
            for changed in (*x, *masks):
                changed.zero_()
        del masks, changed
        noise = [torch.full((8, 8, 8, 2), torch.nan, device=device) for _ in range(8)]
        leaf = x[0]
        (got,) = torch.autograd.grad(loss, leaf)
        close([got.cpu()], [gradient], tolerance=0)
        assert loss.item() == wanted.item()
        got.fill_(torch.nan)  # PyTorch's to change
        del x, leaf, noise


@pytest.mark.slow
def test_how_often_it_compiles():
    compiled = []

    def listen(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        jax.clear_caches()
        for b, n in [(32, 33), (32, 36), (32, 35), (31, 34), (26, 33)]:
            pair, corrupted, cause, labels, candidates = example(b, n)
            for step in range(2):  # a schedule of the weights compiles nothing
                cdmr_loss(pair, cause, labels, candidates, base_margin=0.05 + step)
                ccps_loss(corrupted, pair, labels, candidates, corruption_weight=step)
            corrupt_context(torch.ones(b, n, 3), gold_utterances(labels), rate=b / 100)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    programs = (torch_losses._program, torch_losses._draw)
    assert [program._cache_size() for program in programs] == [2, 1]
    assert 3 <= len(compiled) < 10, "JAX compiles small things of its own"


@pytest.mark.slow
def test_in_a_compiled_trainer():
    pair, corrupted, cause, labels, candidates = example()
    step = torch.compile(lambda pair: both(2 * pair, corrupted, cause, labels, candidates),
                         backend="eager")  # fmt: skip
    wanted = both(2 * pair, corrupted, cause, labels, candidates)
    close(gradients(step(pair), pair), gradients(wanted, pair), tolerance=1e-7)


class TestCorruption:
    h = torch.randn(3, 9, 4, generator=torch.Generator().manual_seed(0))
    protected = torch.tensor([[1, 0, 0, 1, 0, 0, 0, 0, 0]] * 3)

    @pytest.mark.slow
    @ON_DEVICES
    def test_equal_to_jax(self, device):
        h, protected = self.h.to(device), self.protected.to(device)
        torch.manual_seed(5)
        seed = torch.randint(2**31, ()).item()
        key = jax.random.key(seed)
        arrays = jnp.asarray(self.h.numpy()), jnp.asarray(self.protected.numpy())
        wanted = np.asarray(corruption.corrupt_context(key, *arrays, rate=0.4))
        assert (wanted == 0).all(-1).any()
        for generator in (None, torch.Generator().manual_seed(5)):
            torch.manual_seed(5)
            got = corrupt_context(h, protected, rate=0.4, generator=generator)
            np.testing.assert_array_equal(got.cpu(), wanted)
            again = corrupt_context(h, protected, rate=0.4, generator=generator)
            assert not torch.equal(got, again), "the generator moves on"

    def test_gradients_flow_through_the_rows_that_are_kept(self):
        h = self.h.to(torch.bfloat16).requires_grad_()
        corrupted = corrupt_context(h, self.protected.bool(), rate=0.5)
        assert corrupted.dtype == h.dtype
        corrupted.sum().backward()
        kept = (corrupted != 0).any(-1, keepdim=True)
        assert 0 < kept.sum() < kept.numel()
        assert kept[:, [0, 3]].all()
        torch.testing.assert_close(h.grad, kept.to(h.dtype).expand_as(h))
        everything = corrupt_context(self.h * torch.nan, self.protected * 0, rate=1.0)
        assert not everything.any(), "0, even if it was NaN"

    def test_checkpointing_draws_the_same_again(self):
        weight = torch.ones(4, requires_grad=True)

        def corrupted(weight):
            return corrupt_context(self.h * weight, self.protected, rate=0.5).square().sum()

        results = []
        for run in (corrupted, lambda w: checkpoint(corrupted, w, use_reentrant=False)):
            torch.manual_seed(1)
            results.append(torch.autograd.grad(run(weight), weight)[0])
        torch.testing.assert_close(*results, rtol=0, atol=0)


def test_the_losses_in_a_checkpointed_region():
    pair, corrupted, cause, labels, candidates = example()
    loss = checkpoint(both, pair, corrupted, cause, labels, candidates, use_reentrant=False)
    wanted = both(pair, corrupted, cause, labels, candidates)
    close(gradients(loss, pair, corrupted), gradients(wanted, pair, corrupted), tolerance=0)


def test_wrong_arguments_are_one_line():
    pair, corrupted, cause, labels, candidates = example()
    for loss, arguments, parts in (
        (
            cdmr_loss,
            (pair[..., 0], cause, labels, candidates),
            ("5, 7, 7]", "stack((zeros_like(x), x), -1)"),
        ),
        (cdmr_loss, (pair, cause[..., 0], labels, candidates), ("cause_logits", "b = 5, n = 7")),
        (cdmr_loss, (pair, cause, labels, candidates[:1]), ("candidate_mask", "[1, 7, 7]")),
        (cdmr_loss, (pair, cause, labels.numpy(), candidates), ("pair_labels", "ndarray")),
        (cdmr_loss, (pair, None, labels, candidates), ("cause_logits", "pass zeros")),
        (gold_utterances, (labels.tolist(),), ("pair_labels", "list")),
        (ccps_loss, (corrupted.long(), pair, labels, candidates), ("corrupted_pair", "int64")),
        (ccps_loss, (corrupted, pair[:, :6, :6], labels, candidates), ("clean_pair_logits",)),
        (cdmr_loss, (pair, cause, 0.9 * labels + 0.05, candidates), ("pair_labels", "0.05 among")),
        (ccps_loss, (corrupted, pair, labels - 100, candidates), ("pair_labels", "-100 among")),
        (cdmr_loss, (pair, cause, labels, candidates.float().log()), ("candidate_mask", "-inf")),
    ):
        message = refusal(loss, *arguments)
        for part in parts:
            assert part in message
    for loss, arguments, name, value, wanted in (
        (cdmr_loss, (pair, cause, labels, candidates), "base_margin", -1, "at least 0"),
        (cdmr_loss, (pair, cause, labels, candidates), "top_k", 0, "a whole number from 1"),
        (ccps_loss, (corrupted, pair, labels, candidates), "alignment_weight", math.nan, "least 0"),
        (
            ccps_loss,
            (corrupted, pair, labels, candidates),
            "corruption_weight",
            math.inf,
            "least 0",
        ),
        (corrupt_context, (cause, labels[..., 0]), "rate", 30, "from 0 to 1"),
    ):
        message = refusal(loss, *arguments, **{name: value})
        assert message.startswith(f"{name}: is {value}, expected")
        assert wanted in message
    message = refusal(corrupt_context, cause, labels[..., 0], rate="a")
    assert message == "rate: is 'a', expected a number"
    additive = labels[..., 0].float().log()
    assert "protected: holds -inf" in refusal(corrupt_context, cause, additive, rate=0.3)


def test_a_label_to_ignore_protects_nobody():
    labels = torch.tensor([[[-100.0, 0.0, torch.nan], [1.0, 0.0, -100.0], [0.0, 0.0, -1.0]]])
    assert gold_utterances(labels).tolist() == [[True, True, False]]
    assert gold_utterances(labels.nan_to_num(0).int()).tolist() == [[True, True, False]]


def test_devices_that_jax_does_not_have(monkeypatch):
    find = torch_losses._device_of_jax.__wrapped__
    cpu, gpu = torch.device("cpu"), torch.device("cuda:1")
    assert find(cpu) == cpu
    monkeypatch.setattr(torch.version, "cuda", "12.9")
    for device, advice in ((gpu, r"jax\[cuda12\]"), (torch.device("mps"), "CPU$")):
        with pytest.warns(UserWarning, match=advice):
            assert find(device) == cpu
    has = [types.SimpleNamespace(local_hardware_id=1)]
    monkeypatch.setattr(jax, "local_devices", lambda backend: has)
    assert find(gpu) == gpu
    with pytest.warns(UserWarning, match="cuda:0"):
        assert find(torch.device("cuda:0")) == cpu


def test_memory_of_gpus_that_is_taken_already(monkeypatch):
    torch_losses._warn_if_late()  # JAX has started, on a CPU: silence (warnings would be errors)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(torch_losses, "_MEMORY_IS_CHOSEN", False)
    jax.devices()
    with pytest.warns(UserWarning, match="three quarters"):
        torch_losses._warn_if_late()
