"""Makes torchaudio importable beside a torch it was not built for; nothing here imports it, but transformers does.

PyPI's torchaudio links CUDA. Beside a CPU torch its compiled part cannot be loaded, `import
torchaudio` fails, and then so do transformers and diffusers, which import it wherever it is
installed. Its pure-torch functions need none of the compiled part, so `repair` puts an import hook
in the way: the real `torchaudio._extension` is tried first, and only where it cannot be loaded a
stub that says "no extension here" takes its place.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

log = logging.getLogger(__name__)
EXTENSION = "torchaudio._extension"


def repair() -> None:
    """Make a torchaudio that cannot load its compiled part importable; cheap, and safe to call twice.

    Nothing is imported here, and nothing changes where torchaudio is absent or healthy. Call it
    before transformers or diffusers are imported.
    """
    if any(isinstance(finder, _ExtensionFinder) for finder in sys.meta_path):
        return
    if "torchaudio" not in sys.modules and importlib.util.find_spec("torchaudio") is not None:
        sys.meta_path.insert(0, _ExtensionFinder())


class _ExtensionFinder(MetaPathFinder):
    """Finds `torchaudio._extension` where it lies, and hands it to a loader that may fail softly."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != EXTENSION:
            return None
        spec = PathFinder.find_spec(fullname, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _SoftLoader(spec.loader)
        return spec


class _SoftLoader(Loader):
    """Runs the real loader; where that fails, leaves a stub with the three names torchaudio asks for."""

    def __init__(self, real: Loader) -> None:
        self.real = real

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        try:
            self.real.exec_module(module)
        except (ImportError, OSError, RuntimeError, AttributeError) as error:
            log.info(
                "torchaudio's compiled part does not fit this torch (%s); its pure-torch functions are used", error
            )
            module.__dict__.update(
                _IS_TORCHAUDIO_EXT_AVAILABLE=False, _IS_ALIGN_AVAILABLE=False, fail_if_no_align=_unchanged
            )


def _unchanged(function: Any) -> Any:
    """The alignment functions stay importable; calling one fails in torch, which names the missing operator."""
    return function
