"""A subclass of a diffusers model that fixes some of its parent's arguments."""

from __future__ import annotations

import inspect
from typing import Any


class FixedParentMixin:
    """Build from our own arguments alone: the config also records the parent's, which follow from them."""

    @classmethod
    def extract_init_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        own = inspect.signature(cls.__init__).parameters
        kept = {k: v for k, v in config_dict.items() if k in own or k.startswith("_")}
        return super().extract_init_dict(kept, **kwargs)  # type: ignore[misc]
