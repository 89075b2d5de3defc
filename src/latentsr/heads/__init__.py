"""Heads: each makes the wide-band wave of one window of the low band. `HEADS` names them."""

from latentsr.head_kinds import DEFAULT_HEAD, HEADS, HeadKind

__all__ = ["DEFAULT_HEAD", "HEADS", "HeadKind"]
