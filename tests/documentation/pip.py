"""In the place of pip: every package and extra that a page tells to install is looked for; nothing is installed."""

import re
import sys
from importlib.metadata import distribution, metadata

assert sys.argv[1] == "install", sys.argv
extras = set(metadata("latentsr").get_all("Provides-Extra") or [])
for word in (word for word in sys.argv[2:] if word != "."):  # the clone itself
    match = re.fullmatch(r"([A-Za-z0-9._-]+)(?:\[([a-z,]+)\])?", word)
    if match is None:
        sys.exit(f"pip install {word}: not a package")
    if match.group(1) != "latentsr":
        distribution(match.group(1))
    elif missing := set((match.group(2) or "").split(",")) - {""} - extras:
        sys.exit(f"latentsr has no extra {', '.join(sorted(missing))}")
