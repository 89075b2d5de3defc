"""Which of the two published AudioSR checkpoints a file is.

The figures are third parties', met in public code and not verified here, since the files were not at hand: the hashes
in two web front ends (basic, revision 74a47f49 of the Hub repository) and in a media toolbox (speech, revision
413f1d73), the scale factor of basic in an ONNX and an OpenVINO port. The latter uses it for speech too, not knowing
better, so a hash, where it is known, has the last word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from latentsr.folder import ModelError

if TYPE_CHECKING:
    from latentsr.convert.audiosr_file import Checkpoint

VARIANTS = ("basic", "speech")
REPOSITORIES = {variant: f"haoheliu/audiosr_{variant}" for variant in VARIANTS}
PUBLISHED_SHA256 = {
    "8a3506b9619ed32435ce2c115604750c7bddb5ad8502be7b1a3131bde878aa01": "basic",
    "59fd60a9b93346c698788bac9b6077977a21733e7a78db9d3c3af3f1bdebc640": "speech",
}
BASIC_SCALE_FACTOR = 0.3342401385307312
TOLERANCE = 1e-4


def check_variant(file: Checkpoint, variant: str | None) -> None:
    """Raise `ModelError` where a checkpoint is not the one it is said to be; None says nothing.

    A published file is known by its hash. Of any other one "basic" must have basic's scale factor, within 1e-4 or what
    half precision leaves of it, and "speech" must not.
    """
    if variant is None:
        return
    if variant not in VARIANTS:
        raise ValueError(f"unknown variant {variant!r}; choose one of {', '.join(VARIANTS)}")
    other = VARIANTS[1 - VARIANTS.index(variant)]
    advice = f"pass {other} as the variant (--variant {other}) or leave it out"
    published = PUBLISHED_SHA256.get(file.sha256)
    if published == variant:
        return
    if published is not None:
        raise ModelError(f"{file.path} is audiosr_{published}, as its hash says, not audiosr_{variant}; {advice}")
    scale = file.scale_factor
    is_basic = abs(scale - BASIC_SCALE_FACTOR) <= max(TOLERANCE, file.scale_precision)
    if variant == "basic" and not is_basic:
        raise ModelError(
            f"the scale factor {scale:.7f} of {file.path} is not audiosr_basic's ({BASIC_SCALE_FACTOR:.7f}); "
            f"it looks like another checkpoint such as audiosr_speech; {advice}"
        )
    if variant == "speech" and is_basic:
        raise ModelError(
            f"the scale factor {scale:.7f} of {file.path} is audiosr_basic's, not audiosr_speech's; {advice}"
        )
