"""Help pages without boxes: options in groups, `-h` as well as `--help`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand

CONTEXT = {"help_option_names": ["-h", "--help"]}
OTHERS = "Options"


class GroupedCommand(TyperCommand):
    """A command whose help lists its options under the headings that they name (`rich_help_panel`)."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, then each group of options in the order in which they come."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                kind = "Arguments" if parameter.param_type_name == "argument" else OTHERS
                groups.setdefault(getattr(parameter, "rich_help_panel", None) or kind, []).append(record)
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)


def plain_app(**settings: Any) -> typer.Typer:
    """An app that prints plain text."""
    plain: dict[str, Any] = {"pretty_exceptions_enable": False, "rich_markup_mode": None, "context_settings": CONTEXT}
    return typer.Typer(**plain | settings)


def grouped(app: typer.Typer, **settings: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a command whose help is grouped."""
    return app.command(cls=GroupedCommand, context_settings=CONTEXT, **settings)
