"""Which tensor of an official AudioSR checkpoint becomes which of ours, and which ones are left behind."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from latentsr.convert.audiosr_arch import Architecture

NameMap = Mapping[str, Mapping[str, str]]
Shapes = Mapping[str, tuple[int, ...]]

UNET = "model.diffusion_model"  # the raw weights: audiosr never switches to the averaged ones (model_ema)
FIRST_STAGE = "first_stage_model"  # decodes, and holds the vocoder
CONDITION = "cond_stage_models.0.vae"  # encodes the condition
BETAS, SCALE_FACTOR = "betas", "scale_factor"

# The constants of SpeechT5HifiGan's normalisation, which it does not apply here; no checkpoint holds them.
CONSTANTS = {"mean": 0.0, "scale": 1.0}

# What an official file holds beside the weights in use: averaged copies, CLAP, the halves of the two autoencoders that
# never run, and what follows from the betas.
SKIPPED_PREFIXES = (
    "model_ema.",
    "clap.",
    f"{FIRST_STAGE}.encoder.",
    f"{FIRST_STAGE}.quant_conv.",
    f"{CONDITION}.decoder.",
    f"{CONDITION}.post_quant_conv.",
    f"{CONDITION}.vocoder.",
)
SKIPPED = frozenset({
    "logvar", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod",
    "posterior_variance", "posterior_log_variance_clipped", "posterior_mean_coef1", "posterior_mean_coef2",
})  # fmt: skip

_RESNET = {  # of the UNet
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def name_map(architecture: Architecture, encoder: str = CONDITION) -> dict[str, dict[str, str]]:
    """{component: {our tensor: their tensor}}; `encoder` is the autoencoder that the VAE's encoding half comes from."""
    prefixes = {"unet": _unet(architecture), "vae": _vae(architecture, encoder), "vocoder": _vocoder()}
    return {
        component: {ours: _translated(ours, prefixes[component]) for ours in shapes if ours not in CONSTANTS}
        for component, shapes in our_shapes(architecture).items()
    }


def their_shapes(architecture: Architecture, names: NameMap) -> dict[str, tuple[int, ...]]:
    """{their tensor: shape} of everything in `names`, and of betas and scale_factor."""
    shapes: dict[str, tuple[int, ...]] = {BETAS: (1000,), SCALE_FACTOR: ()}
    ours = our_shapes(architecture)
    for component, pairs in names.items():
        for our, their in pairs.items():
            # diffusers' VAE attends with linear layers where theirs has 1 x 1 convolutions.
            square = component == "vae" and ".attentions." in our and len(ours[component][our]) == 2
            shapes[their] = ours[component][our] + ((1, 1) if square else ())
    return shapes


@lru_cache(maxsize=4)
def our_shapes(architecture: Architecture) -> dict[str, Shapes]:
    """{component: {our tensor: shape}}."""
    return {
        name: {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
        for name, network in architecture.build("meta").items()
    }


def is_skipped(their: str) -> bool:
    """Whether an official checkpoint may hold this tensor although nothing reads it."""
    return their in SKIPPED or their.startswith(SKIPPED_PREFIXES)


def _translated(ours: str, prefixes: Mapping[str, str]) -> str:
    """`ours` with its longest known beginning replaced."""
    parts = ours.split(".")
    for cut in range(len(parts), 0, -1):
        head = ".".join(parts[:cut])
        if head in prefixes:
            return ".".join([prefixes[head], *parts[cut:]])
    raise KeyError(ours)


def _unet(architecture: Architecture) -> dict[str, str]:
    levels, layers = len(architecture.unet_channels), architecture.unet_layers
    table = {
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "conv_in": "input_blocks.0.0",
        "mid_block.attentions.0": "middle_block.1",
        "mid_block.attentions.1": "middle_block.2",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
    } | _resnet("mid_block.resnets.0", "middle_block.0") | _resnet("mid_block.resnets.1", "middle_block.3")  # fmt: skip
    for level in range(levels):
        down, first = f"down_blocks.{level}", 1 + level * (layers + 1)
        for layer in range(layers):
            table |= _stage(down, layer, f"input_blocks.{first + layer}")
        table[f"{down}.downsamplers.0.conv"] = f"input_blocks.{first + layers}.0.op"
    for block in range(levels):
        up, first = f"up_blocks.{block}", block * (layers + 1)
        for layer in range(layers + 1):
            table |= _stage(up, layer, f"output_blocks.{first + layer}")
        attends = levels - 1 - block in architecture.unet_attention
        table[f"{up}.upsamplers.0.conv"] = f"output_blocks.{first + layers}.{3 if attends else 1}.conv"
    return {ours: f"{UNET}.{theirs}" for ours, theirs in table.items()}


def _stage(block: str, layer: int, theirs: str) -> dict[str, str]:
    """A residual block and the two transformers behind it."""
    table = {f"{block}.attentions.{2 * layer + i}": f"{theirs}.{1 + i}" for i in range(2)}
    return table | _resnet(f"{block}.resnets.{layer}", f"{theirs}.0")


def _resnet(ours: str, theirs: str) -> dict[str, str]:
    return {f"{ours}.{a}": f"{theirs}.{b}" for a, b in _RESNET.items()}


def _vae(architecture: Architecture, encoder: str) -> dict[str, str]:
    levels, layers = len(architecture.vae_channels), architecture.vae_layers
    table = {"quant_conv": f"{encoder}.quant_conv", "post_quant_conv": f"{FIRST_STAGE}.post_quant_conv"}
    for half, home in (("encoder", encoder), ("decoder", FIRST_STAGE)):
        theirs, attention = f"{home}.{half}", f"{half}.mid_block.attentions.0"
        table[f"{half}.conv_in"] = f"{theirs}.conv_in"
        table[f"{half}.conv_norm_out"] = f"{theirs}.norm_out"
        table[f"{half}.conv_out"] = f"{theirs}.conv_out"
        table |= {f"{half}.mid_block.resnets.{i}": f"{theirs}.mid.block_{i + 1}" for i in range(2)}
        table |= {f"{attention}.{a}": f"{theirs}.mid.attn_1.{b}" for a, b in _VAE_ATTENTION.items()}
    for level in range(levels):
        ours, theirs = f"encoder.down_blocks.{level}", f"{encoder}.encoder.down.{level}"
        table |= _vae_resnets(ours, theirs, layers)
        table[f"{ours}.downsamplers.0.conv"] = f"{theirs}.downsample.conv"
        # diffusers counts from the coarsest level, they from the finest.
        ours, theirs = f"decoder.up_blocks.{levels - 1 - level}", f"{FIRST_STAGE}.decoder.up.{level}"
        table |= _vae_resnets(ours, theirs, layers + 1)
        table[f"{ours}.upsamplers.0.conv"] = f"{theirs}.upsample.conv"
    return table


def _vae_resnets(ours: str, theirs: str, count: int) -> dict[str, str]:
    table = {}
    for i in range(count):
        table[f"{ours}.resnets.{i}"] = f"{theirs}.block.{i}"
        table[f"{ours}.resnets.{i}.conv_shortcut"] = f"{theirs}.block.{i}.nin_shortcut"
    return table


def _vocoder() -> dict[str, str]:
    pairs = {"conv_pre": "conv_pre", "upsampler": "ups", "resblocks": "resblocks", "conv_post": "conv_post"}
    return {ours: f"{FIRST_STAGE}.vocoder.{theirs}" for ours, theirs in pairs.items()}
