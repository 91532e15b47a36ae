"""The losses in PyTorch against those in JAX and against loops, and what trainers do with them."""

import math
from functools import partial

import pytest
from reference import (
    LOGITS,
    all_terms,
    close,
    differences,
    make_batch,
    reference_ccps,
    reference_cdmr,
    reference_triples,
    to_jax,
)
from shared import import_or_skip, refusal

torch = import_or_skip("torch")
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from rpcl_jax.torch_losses import ccps_loss, cdmr_loss, corrupt_context, gold_utterances

ON_DEVICES = pytest.mark.parametrize("device", ["cpu"] + ["cuda"] * torch.cuda.is_available())


def to_torch(batch, dtype, device="cpu"):
    """The batch with leaves for logits, and with NaN in masked cells."""
    x = {k: torch.tensor(v, device=device) for k, v in batch.items()}
    for name in LOGITS:
        x[name] = x[name].to(dtype)
    for name in ("pair", "corrupted"):
        x[name] = x[name].masked_fill(~x["candidates"][..., None], torch.nan)
    x["cause"] = x["cause"].masked_fill(~x["candidates"].any(1)[..., None], torch.nan)
    nothing = ~x["candidates"] & (x["labels"] == 0)  # some masked cells are gold
    x["labels"] = x["labels"].to(dtype).masked_fill(nothing, torch.nan)
    return x | {name: x[name].requires_grad_() for name in LOGITS}


def example(b=5, n=7, dtype=torch.float32):
    """Leaves that require a gradient: pair, corrupted and cause logits; labels and candidates."""
    random = torch.Generator().manual_seed(0)
    logits = [
        torch.randn(shape, generator=random, dtype=torch.float64).to(dtype).requires_grad_()
        for shape in ((b, n, n, 2), (b, n, n, 2), (b, n, 2))
    ]
    labels = (torch.rand(b, n, n, generator=random) < 0.25).long()
    candidates = torch.ones(n, n, dtype=torch.bool).tril().repeat(b, 1, 1)
    return *logits, labels, candidates


def both(pair, corrupted, cause, labels, candidates, **cdmr):
    return cdmr_loss(pair, cause, labels, candidates, **{"base_margin": 0.5} | cdmr) + ccps_loss(
        corrupted, pair, labels, candidates
    )


def gradients(loss, *leaves):
    with torch.autograd.set_detect_anomaly(True):  # a NaN is an error even where it is masked later
        return [g.double().cpu().numpy() for g in torch.autograd.grad(loss, leaves)]


@pytest.mark.slow
@ON_DEVICES
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("candidates", ["past", "random"])
@pytest.mark.parametrize("tied", [False, True])
def test_equal_to_jax(seed, candidates, tied, device):
    batch = make_batch(seed, candidates, tied)
    wanted = all_terms(to_jax(batch))
    x = to_torch(batch, torch.float32, device)
    masks = x["labels"], x["candidates"].long()
    terms = {
        "cdmr": cdmr_loss(x["pair"], x["cause"], *masks, top_k=2, base_margin=0.5),
        "cdmr_all": cdmr_loss(x["pair"], x["cause"], *masks, top_k=None, base_margin=0.5),
        "ccps": ccps_loss(x["corrupted"], x["pair"], *masks),
    }
    for name, loss in terms.items():
        value, gradient = wanted[name]
        leaf = "corrupted" if name == "ccps" else "pair"
        assert (loss.dtype, loss.device) == (torch.float32, x["pair"].device)
        close(loss.detach().cpu(), value, 1e-6)
        close(gradients(loss, x[leaf])[0], gradient[leaf], 1e-6)
        others = [x[k] for k in LOGITS if k != leaf]
        assert torch.autograd.grad(loss + 0, others, allow_unused=True) == (None,) * 3, "detached"


@ON_DEVICES
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    ("top_k", "adaptive"), [(1, True), (2, True), (8, True), (None, True), (2, False)]
)
def test_cdmr_against_loops_in_float64(top_k, adaptive, tied, device):
    batch = make_batch(5, "random", tied)
    x = to_torch(batch, torch.float64, device)
    triples = reference_triples(batch, top_k, 0.3, adaptive)
    options = {"top_k": top_k, "base_margin": 0.3, "adaptive_margin": adaptive}
    loss = cdmr_loss(x["pair"], x["cause"], x["labels"], x["candidates"], **options)
    assert loss.dtype == torch.float64
    assert loss.item() == pytest.approx(reference_cdmr(batch, triples), abs=1e-12)
    wanted = differences(partial(reference_cdmr, triples=triples), batch, "pair")
    close(gradients(loss, x["pair"])[0], wanted, 1e-9)


@ON_DEVICES
@pytest.mark.parametrize("weights", [(0.75, 0.2), (0.0, 3.0), (2.0, 0.0)])
def test_ccps_against_loops_in_float64(weights, device):
    batch = make_batch(5, "random")
    x = to_torch(batch, torch.float64, device)
    options = dict(zip(("corruption_weight", "alignment_weight"), weights, strict=True))
    loss = ccps_loss(x["corrupted"], x["pair"], x["labels"], x["candidates"], **options)
    reference = partial(reference_ccps, clean=batch["pair"], **options)
    assert loss.item() == pytest.approx(reference(batch), abs=1e-12)
    close(gradients(loss, x["corrupted"])[0], differences(reference, batch, "corrupted"), 1e-9)


def test_defaults_are_the_papers():
    pair, corrupted, cause, labels, candidates = example(n=20)
    masks = labels, candidates
    options = {"top_k": 8, "base_margin": 0.05, "adaptive_margin": True}
    for other in ({}, {"top_k": 9}, {"base_margin": 0.06}, {"adaptive_margin": False}):
        same = torch.equal(
            cdmr_loss(pair, cause, *masks), cdmr_loss(pair, cause, *masks, **options | other)
        )
        assert same == (not other)
    distance = (corrupted.softmax(-1) - pair.softmax(-1)).square().sum(-1)[candidates].mean()
    wanted = 0.75 * cross_entropy(corrupted[candidates], labels[candidates]) + 0.2 * distance
    assert ccps_loss(corrupted, pair, *masks).item() == pytest.approx(wanted.item(), abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_computed_in_float32(dtype):
    pair, corrupted, cause, labels, candidates = example(dtype=dtype)
    masks = labels, candidates
    loss = both(pair, corrupted, cause, *masks)
    wanted = both(pair.float(), corrupted.float(), cause.float(), *masks)
    assert torch.equal(loss, wanted)
    got, expected = (torch.autograd.grad(of, (pair, corrupted)) for of in (loss, wanted))
    assert got[0].dtype == dtype
    assert all(map(torch.equal, got, expected))
    assert torch.equal(cdmr_loss(pair.float(), cause, *masks), cdmr_loss(pair, cause, *masks))


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
    assert torch.equal(loss, both(logits, logits, cause, labels, candidates))
    (gradient,) = torch.autograd.grad(loss, weight)
    plain = pair.detach() @ weight
    (wanted,) = torch.autograd.grad(both(plain, plain, cause, labels, candidates), weight)
    torch.testing.assert_close(gradient, wanted, rtol=0.02, atol=0.01)


def test_first_and_second_derivatives():
    pair, corrupted, cause, labels, candidates = example(b=2, n=3, dtype=torch.float64)
    labels = labels | torch.eye(3, dtype=torch.long)

    def loss(pair, corrupted):
        return both(pair, corrupted, cause, labels, candidates, top_k=2)

    # The clean logits are used as if detached, which differences do not know.
    ranking = partial(cdmr_loss, cause_logits=cause, pair_labels=labels, candidate_mask=candidates)
    stability = partial(
        ccps_loss, clean_pair_logits=pair.detach(), pair_labels=labels, candidate_mask=candidates
    )
    for of, x in ((partial(ranking, base_margin=0.5, top_k=2), pair), (stability, corrupted)):
        assert torch.autograd.gradcheck(of, x)
        assert torch.autograd.gradgradcheck(of, x)
    assert torch.equal(
        torch.func.grad(loss)(pair, corrupted),
        torch.autograd.grad(loss(pair, corrupted), pair)[0],
    )


def test_one_triple_and_one_candidate_by_hand():
    pair, cause = torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2)
    pair[0, 1, 0, 1], cause[0, 0, 1] = math.log(3), math.log(3)  # p and q of 3/4, the others of 1/2
    labels = torch.tensor([[[0, 0], [1, 0]]])
    loss = cdmr_loss(pair, cause, labels, torch.ones(1, 2, 2).tril(), base_margin=0.5)
    assert loss.item() == pytest.approx(0.5 * math.exp(0.5 - 0.75) - (0.75 - 0.5), abs=1e-6)
    one = torch.tensor([[[False, False], [True, False]]])
    weights = {"corruption_weight": 1, "alignment_weight": 1}
    loss = ccps_loss(pair, torch.zeros_like(pair), labels, one, **weights)
    assert loss.item() == pytest.approx(-math.log(0.75) + 2 * (0.75 - 0.5) ** 2, abs=1e-6)


@pytest.mark.parametrize("b", [0, 3])
def test_nothing_to_average(b):
    pair, corrupted, cause, labels, candidates = example(b=b)
    losses = [
        cdmr_loss(pair, cause, labels * 0, candidates),  # no gold pair
        cdmr_loss(pair, cause, labels * 0 + 1, candidates),  # nothing else
        both(pair, corrupted, cause, labels, candidates & False),
    ]
    for loss in losses:
        loss.backward()
        assert loss.item() == 0
    for x in (pair, corrupted):
        assert x.grad.shape == x.shape
        assert not x.grad.any()


@pytest.mark.slow
def test_in_a_compiled_trainer():
    compiled = torch.compile(both, fullgraph=True, backend="eager")
    x = example()
    for margin in (0.5, 0.4, 0.3):  # a schedule
        losses = [of(*x, base_margin=margin) for of in (compiled, both)]
        assert torch.equal(*losses)
        assert all(map(torch.equal, *(torch.autograd.grad(loss, x[:2]) for loss in losses)))
    with pytest.raises(RuntimeError, match=r"pair_labels: holds others .* among the candidates"):
        compiled(*x[:3], x[3] - 100, x[4], base_margin=0.3)

    def zeroed(labels):
        return corrupt_context(x[2], gold_utterances(labels), rate=0.5)

    drawn = []
    for of in (torch.compile(zeroed, fullgraph=True, backend="eager"), zeroed):
        torch.manual_seed(0)
        drawn.append(of(x[3]))
    assert torch.equal(*drawn)


def test_on_a_device_without_values():
    """`meta` refuses to mix devices and to read a value: neither happens where masks are bool."""
    *logits, labels, candidates = (x.detach().to("meta") for x in example())
    loss = both(*logits, labels.bool(), candidates)
    generator = torch.Generator()  # of the CPU
    corrupted = corrupt_context(logits[2], gold_utterances(labels), rate=0.3, generator=generator)
    assert loss.device == corrupted.device == torch.device("meta")


class TestCorruption:
    h = torch.randn(64, 32, 4, generator=torch.Generator().manual_seed(0))
    protected = torch.rand(64, 32, generator=torch.Generator().manual_seed(1)) < 0.2

    @ON_DEVICES
    @pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
    def test_what_is_zeroed(self, rate, device):
        h, protected = self.h.to(device), self.protected.to(device)
        torch.manual_seed(0)
        corrupted = corrupt_context(h, protected.long(), rate=rate)
        zeroed = (corrupted == 0).all(-1)
        assert torch.equal(corrupted, h * ~zeroed[..., None])
        assert not zeroed[protected].any()
        free = zeroed[~protected].double()
        assert free.mean().item() == pytest.approx(rate, abs=0.03 * (0 < rate < 1))
        if rate == 0.3:  # neither whole dialogues nor whole positions
            assert zeroed.double().mean(0).std() < 0.1
            assert zeroed.double().mean(1).std() < 0.15

    @ON_DEVICES
    def test_the_generator(self, device):
        h, protected = self.h.to(device), self.protected.to(device)
        for name in ("cpu", device):
            drawn = []
            for seed in (5, 5, 6):
                generator = torch.Generator(name).manual_seed(seed)
                drawn.append(corrupt_context(h, protected, rate=0.4, generator=generator))
            again = corrupt_context(h, protected, rate=0.4, generator=generator)
            assert torch.equal(drawn[0], drawn[1])
            assert not torch.equal(drawn[0], drawn[2])
            assert not torch.equal(again, drawn[2]), "the generator moves on"

    def test_gradients_flow_through_the_rows_that_are_kept(self):
        h = self.h.to(torch.bfloat16).requires_grad_()
        corrupted = corrupt_context(h, self.protected, rate=0.5)
        assert corrupted.dtype == h.dtype
        corrupted.sum().backward()
        kept = (corrupted != 0).any(-1, keepdim=True)
        torch.testing.assert_close(h.grad, kept.to(h.dtype).expand_as(h))
        everything = corrupt_context(self.h * torch.nan, self.protected & False, rate=1.0)
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
        (partial(corrupt_context, rate=0.3), (cause, labels), ("protected", "[5, 7, 7]")),
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
