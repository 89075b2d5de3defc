"""`python -m latentsr` is the command `latentsr`."""

from latentsr.apps.cli import main

if __name__ == "__main__":
    main()
