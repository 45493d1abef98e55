"""Where the changed copy of a source goes, and whether it can go there."""

from __future__ import annotations

import os
from pathlib import Path

from kmslab.campaign.plan import Options
from kmslab.errors import CampaignError, SourceError
from kmslab.records.source import Guarded, Part, Source


def output_path(options: Options, source: Source, part: Part) -> Path | None:
    """Where the changed copy of a part goes; None where the part itself is changed.

    Of one file it is the output itself; of several it has the place in the output folder that the
    part has in the source.
    """
    if options.output is None:
        return None
    output = Path(options.output).resolve()
    return output if _is_file(source) else output / Path(part.name).relative_to(_root(source))


def check_options(options: Options, source: Source) -> None:
    """CampaignError where a campaign with these options could not be finished on the source."""
    if options.atomic and len(source.parts) > 1:
        raise CampaignError(
            f"{source.name} has {len(source.parts)} files, which cannot change all at once; "
            "atomic is for one file or one table"
        )
    if options.output is not None:
        _check_output(Path(options.output).resolve(), source)


def check_writable(source: Source) -> None:
    """SourceError where a source is known not to take anything. Of a table its database is asked,
    of files their folders are looked at."""
    if isinstance(source, Guarded):
        source.check_writable()
    else:
        _check_folders(source)


def _check_folders(source: Source) -> None:
    # What a link leads to is replaced, not the link.
    for folder in sorted({Path(part.name).resolve().parent for part in source.parts}):
        if not os.access(folder, os.W_OK | os.X_OK):
            raise SourceError(
                f"{folder} cannot be written to, and a changed file is made beside the old one, "
                "which it then replaces: allow it, or write a copy elsewhere with --output; "
                "nothing was changed",
                source=source.name,
            )


def _check_output(output: Path, source: Source) -> None:
    if "://" in source.name:
        raise CampaignError(f"{source.name} is a table, of which no copy is made")
    if output.exists():
        raise CampaignError(f"{output} is there already; name an output that is not")
    if _is_file(source):
        suffix = Path(source.name).suffix
        if output.suffix != suffix:
            raise CampaignError(f"{output}: the name of a copy of {source.name} ends in {suffix}")
    elif _root(source) in output.parents:
        raise CampaignError(f"{output} is in {_root(source)}, whose files it would join")


def _is_file(source: Source) -> bool:
    return [part.name for part in source.parts] == [source.name]


def _root(source: Source) -> Path:
    """The folder that all parts are in."""
    if Path(source.name).is_dir():
        return Path(source.name)
    return Path(os.path.commonpath([Path(part.name).parent for part in source.parts]))
