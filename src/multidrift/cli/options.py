"""Options that only some methods take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import typer

from multidrift.basics.errors import MultidriftError


def refuse_unused(context: typer.Context, chosen: str, used: Mapping[str, Sequence[str]], what: str = "method") -> None:
    """Raise on an option that was given and that the choice does not use, naming the choices that do.

    `used`: the options of each choice that not every one has.
    """
    for name in dict.fromkeys(name for names in used.values() for name in names):
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE" and name not in used[chosen]:
            users = ", ".join(choice for choice, names in used.items() if name in names)
            option = name.replace("_", "-")
            raise MultidriftError(f"{name}: --{option} is not used by --{what} {chosen}; it is an option of {users}")
