"""Mamba-2's scan by matrix products equals its recurrence, and Mamba's where both have the same decays."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from latentsr.models.ssd import ssd_reference, ssd_scan
from latentsr.models.ssm import scan_reference


def inputs(batch=2, length=20, heads=2, width=3, states=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, dtype=torch.float64, generator=g)  # noqa: E731
    uniform = lambda *shape: torch.rand(*shape, dtype=torch.float64, generator=g)  # noqa: E731
    made = (
        normal(batch, length, heads * width),
        uniform(batch, length, heads),
        -3 * uniform(heads),
        normal(batch, length, states),
        normal(batch, length, states),
        normal(batch, heads, states, width),
    )
    return [x.requires_grad_() for x in made]


def assert_scans_equal(values, chunk):
    made, wanted = ssd_scan(*values, chunk=chunk), ssd_reference(*values)
    assert_close(made, wanted, rtol=1e-10, atol=1e-10)
    gradients = [torch.autograd.grad(y.square().sum() + h.square().sum(), values) for y, h in (made, wanted)]
    assert_close(*gradients, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 16, 17])
def test_outputs_and_gradients_are_the_references_at_any_length(length):
    assert_scans_equal(inputs(length=length), chunk=8)


@given(
    batch=st.integers(1, 3),
    length=st.integers(1, 40),
    heads=st.integers(1, 3),
    width=st.integers(1, 4),
    chunk=st.one_of(st.none(), st.integers(1, 50)),
    seed=st.integers(0, 1000),
)
@settings(max_examples=25, deadline=None)
def test_outputs_and_gradients_are_the_references_for_any_shape(batch, length, heads, width, chunk, seed):
    assert_scans_equal(inputs(batch, length, heads, width, seed=seed), chunk)


@torch.no_grad()
def test_it_is_mambas_scan_with_one_decay_per_head():
    u, delta, A, B, C, h = inputs(heads=2, width=3, states=4)
    spread = lambda x: x.repeat_interleave(3, dim=-1)  # noqa: E731
    wanted, _ = scan_reference(u, spread(delta), spread(A)[:, None].expand(6, 4), B, C, h.transpose(2, 3).flatten(1, 2))
    assert_close(ssd_scan(u, delta, A, B, C, h)[0], wanted, rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_outputs_before_a_change_stay_bit_equal():
    values = inputs(length=40)
    before, _ = ssd_scan(*values, chunk=8)
    values[0][:, 21] += 0.5
    after, _ = ssd_scan(*values, chunk=8)
    assert torch.equal(after[:, :21], before[:, :21])
    assert bool((after[:, 21:] != before[:, 21:]).any())


def test_fast_decays_do_not_overflow_in_float32():
    """exp of a positive exponent lies above the diagonal, and must neither be taken nor reach a gradient."""
    u, _, _, B, C, _ = (x.detach().float().requires_grad_() for x in inputs(length=64))
    delta = torch.full((2, 64, 2), 10.0, requires_grad=True)
    y, _ = ssd_scan(u, delta, torch.tensor([-16.0, -1.0]), B, C, chunk=32)
    assert all(x.isfinite().all() for x in (y, *torch.autograd.grad(y.sum(), (u, delta, B, C))))


def test_what_is_kept_for_the_backward_does_not_grow_as_the_states_do():
    """It is L x (D + H N) many times over: four times the states, here twice as much."""
    kept = {}
    for states in (32, 128):
        sizes = {}

        def keep(x, sizes=sizes):
            sizes[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            result = ssd_scan(*inputs(1, 1024, 2, 64, states))
        kept[states] = sum(sizes.values())
        assert result[0].shape == (1, 1024, 128)
    assert kept[128] < 2 * kept[32]
