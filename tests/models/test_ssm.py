"""The selective scan and its blocks: equal to the recurrence as written, whatever the length, chunk and backend."""

import logging
import sys
from functools import partial
from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from latentsr.models import scan
from latentsr.models.scan import scan_chunked, scan_cuda, scan_reference, selective_scan
from latentsr.models.ssm import Mamba

NAMES = ("u", "delta", "A", "B", "C")


def inputs(batch=2, length=9, channels=3, states=4, dtype=torch.float64, seed=0):
    g = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, dtype=dtype, generator=g)  # noqa: E731
    uniform = lambda *shape: torch.rand(*shape, dtype=dtype, generator=g)  # noqa: E731
    made = (
        normal(batch, length, channels),
        uniform(batch, length, channels),
        -3 * uniform(channels, states),
        normal(batch, length, states),
        normal(batch, length, states),
    )
    return [x.requires_grad_() for x in made]


def outputs_and_gradients(scan_, values):
    y = scan_(*values)
    weights = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(1))
    return y.detach(), torch.autograd.grad((y * weights).sum(), values)


def assert_scans_equal(values, chunk):
    made, made_gradients = outputs_and_gradients(partial(scan_chunked, chunk=chunk), values)
    wanted, wanted_gradients = outputs_and_gradients(scan_reference, values)
    assert_close(made, wanted, rtol=1e-10, atol=1e-10)
    for name, gradient, reference in zip(NAMES, made_gradients, wanted_gradients, strict=True):
        assert_close(
            gradient, reference, rtol=1e-10, atol=1e-10, msg=lambda text, name=name: f"gradient of {name}: {text}"
        )


# --- chunked against the reference -----------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 15, 16, 17, 40])
def test_outputs_and_gradients_are_the_references_at_any_length(length):
    assert_scans_equal(inputs(length=length), chunk=8)


@given(
    batch=st.integers(1, 5),
    length=st.integers(1, 40),
    channels=st.integers(1, 6),
    states=st.integers(1, 5),
    chunk=st.one_of(st.none(), st.integers(1, 50)),
    seed=st.integers(0, 1000),
)
@settings(max_examples=30, deadline=None)
def test_outputs_and_gradients_are_the_references_for_any_shape(batch, length, channels, states, chunk, seed):
    assert_scans_equal(inputs(batch, length, channels, states, seed=seed), chunk=chunk)


@pytest.mark.parametrize("at_once", [1, 24, 40, 1000])
def test_sequences_that_wait_their_turn_change_nothing(monkeypatch, at_once):
    monkeypatch.setattr(scan, "POSITION_ELEMENTS", at_once)  # 12 for each of the 5 sequences: 1, 2, 3 or all at once
    assert_scans_equal(inputs(batch=5), chunk=4)


def test_gradients_are_those_of_finite_differences():
    values = inputs(batch=2, length=5, channels=2, states=2)
    assert torch.autograd.gradcheck(lambda *x: scan_chunked(*x, chunk=2), values)


def test_only_some_inputs_need_gradients():
    values = [x.detach() for x in inputs()]
    values[2].requires_grad_()
    made = torch.autograd.grad(scan_chunked(*values, chunk=4).sum(), values[2])
    assert_close(made, torch.autograd.grad(scan_reference(*values).sum(), values[2]), rtol=1e-10, atol=1e-10)


def test_inputs_may_lie_in_memory_in_any_order():
    values = inputs(length=20)
    turned = [x.detach().transpose(0, 1).contiguous().transpose(0, 1).requires_grad_() for x in values]
    made, made_gradients = outputs_and_gradients(partial(scan_chunked, chunk=8), turned)
    wanted, wanted_gradients = outputs_and_gradients(partial(scan_chunked, chunk=8), values)
    assert_close((made, made_gradients), (wanted, wanted_gradients), rtol=0, atol=0)


def test_float32_stays_within_1e_5_over_a_thousand_positions():
    values = [x.detach() for x in inputs(1, 1000, 8, 16)]
    wanted = scan_reference(*values)
    made = scan_chunked(*(x.float() for x in values))
    assert float((made - wanted).abs().max() / wanted.abs().max()) < 1e-5


@torch.no_grad()
def test_outputs_before_a_change_stay_bit_equal():
    values = inputs(length=40)
    before = scan_chunked(*values, chunk=8)
    for i in (0, 1, 3, 4):
        changed = [x.clone() for x in values]
        changed[i][:, 21] += 0.5
        after = scan_chunked(*changed, chunk=8)
        assert torch.equal(after[:, :21], before[:, :21])
        assert bool((after[:, 21:] != before[:, 21:]).any())


@pytest.mark.parametrize("batch", [1, 8])
def test_what_is_kept_for_the_backward_does_not_grow_with_the_states(monkeypatch, batch):
    monkeypatch.setattr(scan, "CHUNK_ELEMENTS", 2**8)  # as small beside these sizes as it is beside real ones
    length, channels, kept = 512, 16, {}
    for states in (4, 64):
        count = []
        values = inputs(batch, length, channels, states, torch.float32)
        with torch.autograd.graph.saved_tensors_hooks(lambda x, count=count: count.append(x.numel()), lambda x: x):
            selective_scan(*values, backend="chunked")
        inputs_kept = sum(x.numel() for x in values)
        kept[states] = sum(count) - inputs_kept
    assert 0 < kept[64] <= batch * length * channels
    assert 0 < kept[4] <= batch * length * channels


# --- backends --------------------------------------------------------------------------------------------------------


@pytest.fixture
def mamba_ssm(monkeypatch):
    """Put a stand-in for mamba-ssm's interface in its place; ordinary memory passes for a GPU's."""
    monkeypatch.setattr(scan, "KERNEL_DEVICE", "cpu")
    scan._kernel.cache_clear()

    def install(function):
        interface = ModuleType("mamba_ssm.ops.selective_scan_interface")
        interface.selective_scan_fn = function
        for name in ("mamba_ssm", "mamba_ssm.ops"):
            monkeypatch.setitem(sys.modules, name, ModuleType(name))
        monkeypatch.setitem(sys.modules, interface.__name__, interface)

    yield install
    scan._kernel.cache_clear()


class Faithful:
    """Layout and results as in mamba_ssm's `selective_scan_ref`: (B, D, L), (D, N), (B, N, L)."""

    def __init__(self):
        self.shapes = []

    def __call__(self, u, delta, A, B, C):
        self.shapes.append([tuple(x.shape) for x in (u, delta, A, B, C)])
        y = scan_reference(*(x.transpose(1, 2) for x in (u, delta)), A, *(x.transpose(1, 2) for x in (B, C)))
        return y.transpose(1, 2)


def refuses(*args, **kwargs):
    raise RuntimeError("no kernel image is available")


def float_inputs(**sizes):
    return [x.detach().float().requires_grad_() for x in inputs(**sizes)]


@pytest.mark.parametrize("backend", [None, "cuda"])
def test_the_kernel_gets_its_own_layout_and_gives_the_references_result(mamba_ssm, backend):
    kernel = Faithful()
    mamba_ssm(kernel)
    values = float_inputs(batch=2, length=9, channels=3, states=4)
    y = selective_scan(*values, backend=backend)
    assert kernel.shapes[-1] == [(2, 3, 9), (2, 3, 9), (3, 4), (2, 4, 9), (2, 4, 9)]
    wanted = scan_reference(*values)
    assert_close(y, wanted, rtol=0, atol=0)
    made = torch.autograd.grad(y.square().sum(), values)
    assert_close(made, torch.autograd.grad(wanted.square().sum(), values), rtol=1e-5, atol=1e-6)


def test_float64_and_too_many_states_are_not_for_the_kernel(mamba_ssm):
    kernel = Faithful()
    mamba_ssm(kernel)
    values = inputs()
    selective_scan(*values)
    assert kernel.shapes == []
    with pytest.raises(RuntimeError, match="with float32, not with torch.float64; .*; or take backend='chunked'"):
        selective_scan(*values, backend="cuda")
    with pytest.raises(RuntimeError, match="at most 256 states per channel, not 257"):
        selective_scan(*float_inputs(states=257), backend="cuda")


def wrong(*args, **kwargs):
    return 1.1 * Faithful()(*args, **kwargs)


@pytest.mark.parametrize(("function", "reason"), [(refuses, "no kernel image"), (wrong, "not the recurrence's")])
def test_a_broken_kernel_is_logged_once_and_left_aside(mamba_ssm, caplog, function, reason):
    mamba_ssm(function)
    values = float_inputs()
    with caplog.at_level(logging.WARNING):
        made = [selective_scan(*values) for _ in range(3)][-1]
    assert_close(made, scan_chunked(*values), rtol=0, atol=0)
    assert len(caplog.records) == 1
    assert reason in caplog.text
    with pytest.raises(RuntimeError, match="installed but broken .*; or take backend='chunked'"):
        selective_scan(*values, backend="cuda")


@pytest.mark.parametrize(
    "error", [ImportError("undefined symbol"), ModuleNotFoundError("no", name="selective_scan_cuda")]
)
def test_a_package_that_cannot_be_imported_is_logged_once_and_left_aside(mamba_ssm, monkeypatch, caplog, error):
    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name == "mamba_ssm":
                raise error

    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    values = float_inputs()
    with caplog.at_level(logging.WARNING):
        made = [selective_scan(*values) for _ in range(3)][-1]
    assert_close(made, scan_chunked(*values), rtol=0, atol=0)
    assert len(caplog.records) == 1


def test_an_absent_package_is_no_matter_for_a_warning(mamba_ssm, monkeypatch, caplog):
    class Absent:
        def find_spec(self, name, path=None, target=None):
            if name == "mamba_ssm":
                raise ModuleNotFoundError("No module named 'mamba_ssm'", name="mamba_ssm")

    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    values = float_inputs()
    assert_close(selective_scan(*values), scan_chunked(*values), rtol=0, atol=0)
    assert caplog.records == []
    with pytest.raises(
        RuntimeError, match=r"not installed; pip install 'latentsr\[mamba\]'; or take backend='chunked'"
    ):
        selective_scan(*values, backend="cuda")


def test_the_kernel_is_not_even_looked_for_on_a_cpu(monkeypatch):
    monkeypatch.setattr(scan, "_kernel", refuses)
    values = float_inputs()
    selective_scan(*values)
    with pytest.raises(RuntimeError, match="the tensors are on cpu; move them to a CUDA device"):
        scan_cuda(*values)


def test_an_unknown_backend_names_those_there_are():
    with pytest.raises(ValueError, match="'triton'; there are chunked, cuda, reference"):
        selective_scan(*inputs(), backend="triton")


# --- blocks ----------------------------------------------------------------------------------------------------------


def mamba(channels=6, **options):
    torch.manual_seed(0)
    return Mamba(channels, state=4, **options)


@torch.no_grad()
@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_block_is_the_one_of_the_paper(bidirectional):
    """Written out once more, with the library's convolution and the reference scan."""
    block, x = mamba(bidirectional=bidirectional), torch.randn(2, 11, 6)
    u, gate = block.in_proj(x).chunk(2, dim=-1)
    total = 0
    for i, direction in enumerate(block.directions):
        v = u.flip(1) if i else u
        weight, bias = direction.conv.weight, direction.conv.bias
        v = torch.conv1d(v.transpose(1, 2), weight, bias, padding=3, groups=12)[..., :11].transpose(1, 2)
        v = v * torch.sigmoid(v)
        low_rank, B, C = direction.x_proj(v).split([1, 4, 4], dim=-1)
        delta = torch.log1p(torch.exp(direction.dt_proj(low_rank)))
        y = scan_reference(v, delta, -torch.exp(direction.A_log), B, C) + direction.D * v
        total = total + (y.flip(1) if i else y)
    assert_close(block(x), block.out_proj(total * gate * torch.sigmoid(gate)), rtol=1e-5, atol=1e-6)


def test_parameters_keep_their_names():
    parts = {"conv.weight", "conv.bias", "x_proj.weight", "dt_proj.weight", "dt_proj.bias", "A_log", "D"}
    directions = {f"directions.{i}.{part}" for i in range(2) for part in parts}
    assert set(mamba(bidirectional=True).state_dict()) == {"in_proj.weight", "out_proj.weight", *directions}


def test_parameter_count_of_the_published_blocks():
    """AEROMamba has two at each of four widths; MambaWave's are bidirectional, of width 64."""
    count = lambda block: sum(p.numel() for p in block.parameters())  # noqa: E731
    assert sum(2 * count(Mamba(width)) for width in (48, 96, 192, 384)) == 2_606_400
    assert count(Mamba(64, state=14, bidirectional=True)) == 39_168


@torch.no_grad()
def test_a_block_of_one_direction_sees_no_future_and_one_of_two_does():
    x = torch.randn(1, 20, 6, generator=torch.Generator().manual_seed(0))
    changed = x.clone()
    changed[:, 12] += 1
    one, two = mamba(), mamba(bidirectional=True)
    assert torch.equal(one(x)[:, :12], one(changed)[:, :12])
    assert float((two(x) - two(changed))[:, :12].abs().amax(dim=(0, 2)).min()) > 0


@torch.no_grad()
def test_reversing_time_and_directions_reverses_the_output():
    block = mamba(bidirectional=True)
    x = torch.randn(2, 15, 6, generator=torch.Generator().manual_seed(0))
    wanted = block(x).flip(1)
    block.directions = torch.nn.ModuleList(reversed(block.directions))
    assert_close(block(x.flip(1)), wanted, rtol=1e-5, atol=1e-6)


def test_bf16_around_it_leaves_the_scan_in_float32():
    block, x = mamba(), torch.randn(2, 30, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = block(x)
    y.float().square().mean().backward()
    assert float((y.float() - block(x)).detach().abs().max()) < 0.02
    assert all(p.grad is not None and p.grad.isfinite().all() for p in block.parameters())
