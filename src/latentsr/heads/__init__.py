"""The wave decoders, one entry each: adding a head is one file, one line here, one config, one test id."""

from latentsr.heads.base import Head
from latentsr.heads.diffwave_mamba import DiffWaveMambaHead
from latentsr.heads.mamba_gan import MambaGanHead
from latentsr.heads.vocoder import VocoderHead

HEADS: dict[str, type[Head]] = {
    "vocoder": VocoderHead,
    "mamba-gan": MambaGanHead,
    "diffwave-mamba": DiffWaveMambaHead,
}
DEFAULT_HEAD = "vocoder"

__all__ = ["DEFAULT_HEAD", "HEADS", "DiffWaveMambaHead", "Head", "MambaGanHead", "VocoderHead"]
