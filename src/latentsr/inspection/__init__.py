"""What there is to know of a recording before it is restored: its band, what probably cut it, and its troubles."""

from latentsr.inspection.causes import Cause
from latentsr.inspection.recording import Inspection, Picture, inspect

__all__ = ["Cause", "Inspection", "Picture", "inspect"]
