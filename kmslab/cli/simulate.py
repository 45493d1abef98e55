"""kmslab simulate: which rotation policy keeps records young."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from kmslab.campaign.wording import counted
from kmslab.cli.options import Json, example, settings
from kmslab.cli.output import narrate_text, write_json, write_table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

app = typer.Typer(**settings())

_COLUMNS = (
    "ROTATE EVERY",
    "CALLS/S",
    "RECORDS",
    "99 % UP TO",
    "OLDEST",
    "STALE AT MOST",
    "FOR AT MOST",
    "CALLS A YEAR",
    "KEEPS UP",
)


_OPTIONS = (
    ("per_day", "--per-day"),
    ("rotate_days", "--rotate-days"),
    ("delay_days", "--delay"),
)


def _numbers(kind: Callable[[str], Any], said: str) -> Callable[[str], list[Any]]:
    def parse(value: str) -> list[Any]:
        try:
            found = [kind(part) for part in value.split(",")]
        except ValueError:
            raise typer.BadParameter(said) from None
        double = [each for each in found if found.count(each) > 1]
        if double:
            raise typer.BadParameter(f"{said}, each once: {double[0]:g} is there twice")
        return found

    return parse


def _whole(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _rate(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise ValueError
    return number


@app.command(
    epilog=example(
        "kmslab simulate --per-day 500000",
        "kmslab simulate --per-day 500000 --initial 1e9 --rotate-days 90,180 --rate 50,100",
        "kmslab simulate --per-day 2000 --younger-than 120 --json",
    )
)
def simulate(
    per_day: Annotated[float, typer.Option("--per-day", min=0, help="Records made on a day.")],
    initial: Annotated[
        float, typer.Option("--initial", min=0, help="Records that are there at the start.")
    ] = 0,
    rotate_days: Annotated[
        str,
        typer.Option("--rotate-days", metavar="DAYS,...", help="Intervals between rotations."),
    ] = "90,180,365",
    rate: Annotated[
        str,
        typer.Option("--rate", metavar="CALLS,...", help="Re-encryptions a second; 0 for none."),
    ] = "0,50,100",
    hours: Annotated[
        float, typer.Option("--hours", min=0, max=24, help="Hours a day that a campaign runs.")
    ] = 24,
    delay: Annotated[
        int, typer.Option("--delay", min=0, help="Days from a rotation to its campaign.")
    ] = 0,
    growth: Annotated[
        float,
        typer.Option(
            "--growth",
            help="Growth of the records a day from year to year; 0.5 is half as many more.",
        ),
    ] = 0,
    deleted: Annotated[
        float,
        typer.Option("--deleted", help="The share of all that is deleted in a year, below 1."),
    ] = 0,
    years: Annotated[
        float, typer.Option("--years", help="Years to play, up to 100; more than two intervals.")
    ] = 5,
    younger_than: Annotated[
        float | None,
        typer.Option(
            "--younger-than", metavar="DAYS", help="Ask which keep 99 % of the records younger."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say how old ciphertexts get under a rotation policy.

    Each interval is played with each rate; nothing is read or re-encrypted. This is a model over
    the days, in which a billion records take no longer than ten. Each line is the worst of the last
    year, in whole intervals, or of the last interval where that is longer. Ages are those of blobs:
    a record that is re-encrypted has a new one. 99 % UP TO is the age that 99 % of the records
    never passed, STALE AT MOST the greatest share of those that were not on the primary version,
    FOR AT MOST how long one of them was. A policy keeps up where on some day nothing was stale; one
    that does not is never ENOUGH, since its records grow older from year to year.
    """
    from kmslab.analysis.simulate import Arrivals, Campaign, sweep

    if younger_than is not None and not 0 < younger_than < float("inf"):
        raise typer.BadParameter("--younger-than takes a number of days above 0")
    said = "--rotate-days takes whole days from 1, such as 90,180"
    intervals = _numbers(_whole, said)(rotate_days)
    rates = _numbers(_rate, "--rate takes calls a second from 0, such as 50,100")(rate)
    try:
        arrivals = Arrivals(per_day, initial, growth, deleted)
        found = sweep(intervals, rates, arrivals, Campaign(hours=hours, delay_days=delay), years)
    except ValueError as error:
        raise typer.BadParameter(_in_options(str(error))) from None
    rows = [_plain(row, younger_than) for row in found.to_dict("records")]
    if as_json:
        write_json(rows)
        return
    columns = [*_COLUMNS, *(["ENOUGH"] if younger_than is not None else [])]
    write_table(columns, [_cells(row) for row in rows])
    if younger_than is not None:
        narrate_text(_answer(rows, younger_than))


def _in_options(said: str) -> str:
    """An error of the model as it speaks of options."""
    for name, option in _OPTIONS:
        said = said.replace(name, option)
    return said


def _plain(row: Mapping[Any, Any], younger_than: float | None) -> dict[str, Any]:
    """A row as JSON takes it: no NaN, and whole numbers where there are no others."""
    plain: dict[str, Any] = {}
    for name, value in row.items():
        known = None if isinstance(value, float) and value != value else value
        whole = isinstance(known, float) and known.is_integer() and name != "rate"
        plain[str(name)] = int(known) if whole and known is not None else known
    if younger_than is not None:
        plain["enough"] = plain["keeps_up"] and _young(plain, younger_than)
    return plain


def _young(row: Mapping[str, Any], younger_than: float) -> bool:
    return row["age_p99_days"] is not None and row["age_p99_days"] < younger_than


def _cells(row: Mapping[str, Any]) -> list[Any]:
    cells = [
        _days(row["rotate_days"]),
        f"{row['rate']:g}",
        f"{row['records']:,.0f}",
        _days(row["age_p99_days"]),
        _days(row["age_max_days"]),
        "-" if row["stale_share"] is None else f"{row['stale_share']:.1%}",
        _days(row["stale_max_days"]),
        f"{row['calls']:,.0f}",
        row["keeps_up"],
    ]
    return [*cells, row["enough"]] if "enough" in row else cells


def _days(number: float | None) -> str:
    return "-" if number is None else counted(round(number), "day")


def _answer(rows: Sequence[Mapping[str, Any]], younger_than: float) -> str:
    """Which of the policies are enough, the one with the fewest calls first."""
    enough = sorted((row for row in rows if row["enough"]), key=lambda row: row["calls"])
    asked = f"99 % of the records younger than {younger_than:g} days"
    behind = sum(_young(row, younger_than) and not row["keeps_up"] for row in rows)
    but = f" {behind} more would for now, but did not keep up." if behind else ""
    if not enough:
        return f"None of these keeps {asked}.{but}"
    best = enough[0]
    return (
        f"{len(enough)} of {len(rows)} keep {asked}; the fewest calls a year, {best['calls']:,}, "
        f"takes rotating every {_days(best['rotate_days'])}, re-encrypting at {best['rate']:g} "
        f"calls/s.{but}"
    )
