"""What makes speech of a model: its formulas, its shapes, and what it may not see."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from omni.encoders.codec import BOOKS
from omni.entry import EntryError
from omni.heads import HEADS, complete
from omni.heads.causal import Block, CausalConv
from omni.heads.depth import DepthHead
from omni.heads.flow import SIGMA, Flow, guided, target, time_grid
from omni.heads.mel import BINS, HOP, RATE, griffin_lim, log_mel
from omni.heads.quantiser import DEAD, ResidualQuantiser
from omni.heads.vocoder import Vocoder

SIZES = (9, 7, 5, 5)


def tone(seconds: float, pitch: float = 300.0) -> torch.Tensor:
    return 0.3 * torch.sin(2 * math.pi * pitch * torch.arange(round(seconds * RATE)) / RATE)


@pytest.fixture(scope="module")
def vectors():
    """Points of sixteen clumps, of which each clump has clumps again."""
    torch.manual_seed(0)
    coarse, fine = torch.randn(16, 12), torch.randn(8, 12)
    picks = torch.randint(16, (2000,)), torch.randint(8, (2000,))
    return 3 * coarse[picks[0]] + fine[picks[1]] + 0.2 * torch.randn(2000, 12)


@pytest.fixture(scope="module")
def quantiser(vectors):
    torch.manual_seed(0)
    made = ResidualQuantiser([16, 8, 8, 8], 12).train()
    every = torch.full((len(vectors),), 4)
    for _ in range(30):
        made(vectors, every)
        made.learn(made.take_seen())
    return made.eval()


@torch.no_grad()
def test_every_book_leaves_less_than_those_before(quantiser, vectors):
    codes = quantiser.encode(vectors)
    norms = [vectors.norm(dim=1).mean()]
    norms += [(vectors - quantiser.lookup(codes[:, :n])).norm(dim=1).mean() for n in range(1, 5)]
    assert all(after < before for before, after in pairwise(norms))
    assert norms[-1] < 0.25 * norms[0]
    for book, column in zip(quantiser.books, codes.T, strict=True):
        assert book.entropy() > 0.8 and not book.dead().any()
        assert len(column.unique()) == len(book.vectors)


def test_gradients_pass_the_quantiser_straight_through(quantiser, vectors):
    x = vectors[:5].clone().requires_grad_()
    found = quantiser(x, torch.tensor([4, 4, 1, 2, 4]))
    weights = torch.randn(5, 12)
    (found.values * weights).sum().backward()
    torch.testing.assert_close(x.grad, weights)
    first = quantiser.lookup(found.codes[2:3, :1])[0]
    torch.testing.assert_close(found.values[2].detach(), first)


def test_a_dead_code_halves_the_cell_of_the_one_that_is_used_most(vectors):
    torch.manual_seed(0)
    made = ResidualQuantiser([16], 12).train()
    every = torch.ones(len(vectors), dtype=torch.long)
    made(vectors, every)
    book = made.books[0]
    with torch.no_grad():
        book.vectors[3] = 100.0
        book.usage[3] = 0.0
    assert book.dead()[3]
    cells = book.nearest(vectors)
    most = int(cells.bincount(minlength=16).argmax())
    made(vectors, every)
    assert not book.dead().any() and DEAD == 0.1
    halves = book.nearest(vectors[cells == most])
    shares = [float((halves == code).float().mean()) for code in (most, 3)]
    assert min(shares) > 0.2 and sum(shares) > 0.9
    assert book.usage[3] == book.usage[most]


def test_frozen_books_stay_as_they_are(quantiser, vectors):
    before = {name: value.clone() for name, value in quantiser.state_dict().items()}
    quantiser.requires_grad_(False).train()
    quantiser(vectors, torch.full((len(vectors),), 4))
    quantiser.requires_grad_(True).eval()
    assert all(torch.equal(before[n], value) for n, value in quantiser.state_dict().items())


@pytest.mark.parametrize("code", [-1, 8, 10_000])
def test_a_code_that_its_book_does_not_have_is_refused(quantiser, code):
    codes = torch.tensor([[0, 0, 0, 0], [15, 7, code, 0]])
    with pytest.raises(ValueError, match=f"frame 1: book 2 has the codes 0 to 7, not {code}"):
        quantiser.lookup(codes)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (3, 1)])
@pytest.mark.parametrize("shared", [False, True])
def test_a_book_knows_those_before_it_alone(shape, shared):
    """Batch 1 of length 1 too."""
    torch.manual_seed(0)
    head = DepthHead(SIZES, 32, layers=2, shared=shared)
    hidden, embedded = torch.randn(math.prod(shape), 32), torch.randn(math.prod(shape), 4, 32)
    before = head(hidden, embedded)
    assert [tuple(s.shape) for s in before] == [(len(hidden), n + 1) for n in SIZES]
    for book in range(4):
        changed = embedded.clone()
        changed[:, book] += 1.0
        after = head(hidden, changed)
        for number, (one, other) in enumerate(zip(before, after, strict=True)):
            assert torch.equal(one, other) == (number <= book)


def test_with_a_cache_the_scores_are_the_same_bits():
    torch.manual_seed(0)
    head = DepthHead(SIZES, 32, layers=3)
    hidden, embedded = torch.randn(7, 32), torch.randn(7, 4, 32)
    cache, given, total = head.start(), hidden, torch.zeros(7, 32)
    for book in range(4):
        cached = head.step(given, cache)
        assert torch.equal(cached, head(hidden, embedded[:, :book])[book])
        given = total = total + embedded[:, book]


def test_the_papers_head_has_as_many_parameters():
    """At width 3584: three layers of 1.387 B, classes of 69.8 M; shared, an eighth of the nets."""
    with torch.device("meta"):
        paper, shared = (DepthHead(tuple(BOOKS), 3584, 3, s) for s in (False, True))
    assert sum(p.numel() for p in paper.layers.parameters()) == pytest.approx(1.387e9, rel=1e-3)
    assert sum(p.numel() for p in paper.heads.parameters()) == 19_464 * 3584
    nets = [sum(p.numel() for layer in h.layers for p in (*layer.up, *layer.down))
            for h in (paper, shared)]  # fmt: skip
    assert nets[0] == 8 * nets[1]


def test_the_flow_goes_straight_from_noise_to_frames():
    frames, noise = torch.full((2, 3, BINS), 4.0), torch.full((2, 3, BINS), -2.0)
    at, velocity = target(frames, noise, torch.tensor([0.0, 0.25]))
    assert torch.equal(at[0], noise[0]) and SIGMA == 1e-6
    torch.testing.assert_close(at[1], torch.full((3, BINS), (1 - 0.25 * (1 - 1e-6)) * -2 + 1.0))
    torch.testing.assert_close(velocity, torch.full_like(frames, 4 + 2 * (1 - 1e-6)))


def test_steps_are_short_at_first():
    expected = [0, 0.0123, 0.0489, 0.1090, 0.1910, 0.2929, 0.4122, 0.5460, 0.6910, 0.8436, 1]
    assert time_grid(10) == pytest.approx(expected, abs=5e-5)


def test_guidance_leads_away_from_what_knows_nothing():
    shown, hidden = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 1.0])
    torch.testing.assert_close(guided(shown, hidden), torch.tensor([1.35, -4.1]))


@pytest.mark.parametrize("layer", ["conv", "stride", "block"])
def test_a_layer_sees_nothing_that_follows(layer):
    torch.manual_seed(0)
    made = {"conv": CausalConv(8, 8, 5), "stride": CausalConv(8, 8, 4, 2), "block": Block(8, 2, 6)}
    module, x = made[layer].eval(), torch.randn(1, 8, 24)
    x = x.transpose(1, 2) if layer == "block" else x
    time = 1 if layer == "block" else 2
    with torch.no_grad():
        whole, state = module(x), {}
        parts = [module(part, state) for part in x.split(4, time)]
        torch.testing.assert_close(torch.cat(parts, time), whole, atol=1e-6, rtol=1e-5)
        changed = x.clone()
        changed.narrow(time, 12, 12).add_(1.0)
        after = module(changed)
    half = whole.shape[time] // 2
    assert torch.equal(after.narrow(time, 0, half), whole.narrow(time, 0, half))
    assert not torch.equal(after, whole)


@pytest.mark.parametrize("chunk", [1, 3, 10])
def test_a_stream_is_the_whole(chunk):
    torch.manual_seed(0)
    flow, vocoder = Flow(12, 32, 1, 1).eval(), Vocoder(32, 2).eval()
    for last in (flow.unet.out, vocoder.out):  # both begin with nothing of their own to say
        nn.init.normal_(last.weight, std=0.1)
    vectors, decoded = torch.randn(23, 12), torch.randn(23 * 8, BINS)
    with torch.no_grad():
        frames = flow.frames(vectors, decoded, flow.start()) - 1  # as loud as speech
        whole = vocoder(frames[None])[0]
        state, sound, parts = flow.start(), {}, []
        for part, shown in zip(vectors.split(chunk), decoded.split(8 * chunk), strict=True):
            parts.append(vocoder(flow.frames(part, shown, state)[None] - 1, sound)[0])
        parts.append(vocoder.rest(sound)[0])
    streamed = torch.cat(parts)
    assert len(whole) == len(streamed) == 23 * 8 * HOP
    assert (streamed - whole).abs().max() <= 1e-5 < whole.abs().max()


def test_a_vocoder_that_has_not_learnt_makes_the_frames_that_it_is_given():
    time = torch.arange(RATE) / RATE
    pitch = 100 * (1 + 0.2 * time)
    voiced = sum(torch.sin(2 * torch.pi * n * pitch * time) / n for n in range(1, 30))
    wave = 0.1 * voiced * (0.2 + torch.sin(2 * torch.pi * 3 * time) ** 2)
    frames = log_mel(wave)
    with torch.no_grad():
        found = log_mel(Vocoder(32, 1)(frames[None])[0])
    assert found.shape == frames.shape
    assert (found - frames).abs().mean() < 0.3 * (frames - frames.mean()).abs().mean()


def test_the_loss_of_a_flow_halves():
    torch.manual_seed(0)
    flow = Flow(4, 32, 1, 1)
    vectors = torch.eye(4).repeat(2, 1)[None]  # (1, 8, 4)
    frames = vectors.repeat_interleave(8, 1) @ torch.randn(4, BINS)
    optimizer = torch.optim.AdamW(flow.parameters(), 3e-3)
    losses = []
    for _ in range(120):
        noise, time = torch.randn_like(frames), torch.rand(1)
        prior = flow.prior(vectors, torch.zeros_like(frames))
        velocity = flow.loss(prior, frames, noise, time, torch.ones(1)).mean()
        velocity.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(velocity.item())
    assert sum(losses[-10:]) / 10 < 0.5 * losses[0]


def test_a_flow_that_has_not_learnt_ends_at_the_frames_that_it_is_given():
    torch.manual_seed(0)
    flow, vectors, decoded = Flow(4, 32, 1, 1).eval(), torch.randn(5, 4), torch.randn(40, BINS)
    found = flow.frames(vectors, decoded, flow.start())
    torch.testing.assert_close(found, decoded, atol=0.1, rtol=0)


def test_ten_steps_along_the_true_velocity_end_at_the_frames():
    flow, frames = Flow(4, 32, 1, 1).eval(), torch.randn(5 * 8, BINS)
    times = []

    class Oracle(nn.Module):
        def forward(self, x, prior, time, state):
            times.append(time[0].item())
            t = time[:, None, None]
            noise = (x - t * frames) / (1 - (1 - SIGMA) * t)
            velocity = frames - (1 - SIGMA) * noise
            velocity[0] -= (prior[0] - x[0]) / (1 - t[0])  # which is there without the net
            assert prior[0].any() and not prior[1].any()
            return velocity

    flow.unet = Oracle()
    found = flow.frames(torch.randn(5, 4), torch.randn(40, BINS), flow.start())
    torch.testing.assert_close(found, frames, atol=1e-4, rtol=1e-4)
    assert times == pytest.approx(time_grid(10)[:-1])


@pytest.mark.parametrize(("wave", "most"), [
    (tone(1.0), 0.25), (torch.zeros(RATE), 0.01), (tone(1.0).mul(9).clamp(-1, 1), 0.6),
], ids=["tone", "silence", "clipped"])  # fmt: skip
def test_a_wave_survives_griffin_lim(wave, most):
    mel = log_mel(wave)
    assert mel.shape == (100, BINS)
    again = griffin_lim(mel)
    assert again.shape == wave.shape and again.isfinite().all()
    assert (log_mel(again) - mel).abs().mean() < most
    assert griffin_lim(mel[:0]).shape == (0,)


def test_frames_do_not_depend_on_what_is_far_and_loud():
    quiet = tone(1.0) * 0.01
    loud = torch.cat([quiet, tone(1.0, 900)])
    torch.testing.assert_close(log_mel(loud)[:95], log_mel(quiet)[:95], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("entry", "reason"), [
    ({"kind": "deep"}, "unknown head 'deep'"),
    ({"kind": "depth", "layer": 2}, "takes no 'layer'; did you mean 'layers'"),
    ({"kind": "depth", "layers": 0}, "layers is a whole number from 1, not 0"),
    ({"kind": "depth", "shared": 1}, "shared is true or false"),
    ({"kind": "flow", "hidden": 33}, "hidden is an even whole number"),
    ({"kind": "vocoder", "hidden": "wide"}, "hidden is a whole number"),
])  # fmt: skip
def test_a_head_that_cannot_be_is_refused(entry, reason):
    with pytest.raises(EntryError, match=reason):
        complete(entry)


@pytest.mark.parametrize("kind", HEADS)
def test_a_config_says_all_options(kind):
    assert complete({"kind": kind}).keys() == {"kind", *HEADS[kind].options}
    assert issubclass(HEADS[kind], nn.Module)


def test_the_head_learns_every_book():
    """Of codes that follow from the hidden state and those before: all below a blind guess."""
    torch.manual_seed(0)
    head, tables = DepthHead(SIZES, 32, layers=1), [nn.Embedding(n + 1, 32) for n in SIZES]
    kinds = torch.randint(4, (64,))
    hidden = nn.functional.one_hot(kinds, 32).float() * 5
    codes = torch.stack([kinds, *((kinds * (n + 2) + n) % SIZES[n] for n in (1, 2, 3))], 1)
    embedded = torch.stack([t(c) for t, c in zip(tables, codes.T, strict=True)], 1).detach()
    optimizer = torch.optim.AdamW(head.parameters(), 3e-3)
    for _ in range(60):
        scores = head(hidden, embedded)
        losses = [nn.functional.cross_entropy(s, c) for s, c in zip(scores, codes.T, strict=True)]
        sum(losses).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert all(loss < 0.5 * math.log(n) for loss, n in zip(losses, SIZES, strict=True))
