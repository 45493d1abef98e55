"""Charts: titled, with units, readable in grey, in letters that there are; of nothing too."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from datetime import timedelta

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from frame_data import START, World
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

import kmslab.frames as frames
from kmslab import Lab, ManualClock, charts
from kmslab.analysis import rotation
from kmslab.analysis.simulate import Arrivals, simulate
from kmslab.campaign.watching import Progress
from kmslab.charts import shared
from kmslab.errors import FrameError


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def inventory(shared_world: World) -> pd.DataFrame:
    return shared_world.frame().kms.inspect(shared_world.lab, now=shared_world.clock.now())


def all_charts(world: World, inventory: pd.DataFrame) -> dict[str, Axes]:
    progress = pd.DataFrame({"at": pd.to_datetime(["2026-01-01", "2026-01-02"]), "left": [2, 0]})
    versions = frames.versions(world.lab)
    if inventory.empty:
        progress, versions = progress.iloc[:0], versions.iloc[:0]
    return {
        "census": charts.census_bars(inventory.kms.census()),
        "ages": charts.age_histogram(inventory),
        "timeline": charts.version_timeline(
            versions, inventory.kms.census(), now=world.clock.now()
        ),
        "burn down": charts.burn_down(progress, rate=1),
        "exposure": charts.exposure_map(inventory.kms.exposure()),
        "forecast": charts.forecast_curves(rotation.forecast(inventory)),
        "simulation": charts.simulation_curves(
            {"90 days": simulate(90, Arrivals(per_day=1), years=1).daily}, limit_days=100
        ),
    }


@pytest.mark.parametrize("rows", [14, 0])
def test_every_chart_has_a_title_and_names_its_axes(
    shared_world: World, inventory: pd.DataFrame, rows: int
) -> None:
    for name, axes in all_charts(shared_world, inventory.iloc[:rows]).items():
        assert axes.get_title(loc="left"), name
        assert axes.get_xlabel(), name
        assert axes.get_ylabel() or name in ("census", "timeline"), name
        axes.figure.set_dpi(20)  # few pixels are drawn as many are, and sooner
        axes.figure.canvas.draw()


def test_charts_go_into_axes_that_are_there(inventory: pd.DataFrame) -> None:
    figure, places = plt.subplots(1, 2)
    assert charts.census_bars(inventory.kms.census(), ax=places[0]) is places[0]
    assert charts.age_histogram(inventory, ax=places[1]) is places[1]
    assert len(figure.axes) == 2


def test_bars_are_the_records(inventory: pd.DataFrame) -> None:
    census = inventory.kms.census()
    axes = charts.census_bars(census)
    by_height = {round(bar.get_y() + bar.get_height() / 2): bar for bar in axes.patches}
    assert [by_height[n].get_width() for n in range(len(census))] == census["records"].tolist()
    dark = [sum(to_rgb(by_height[n].get_facecolor()[:3])) < 1 for n in range(len(census))]
    assert dark == [not primary for primary in census["is_primary"]]


def test_a_histogram_holds_every_record_with_an_age(inventory: pd.DataFrame) -> None:
    undated = inventory.assign(age_days=inventory["age_days"].where(inventory["stale"]))
    axes = charts.age_histogram(undated)
    assert sum(bar.get_height() for bar in axes.patches) == 12
    assert any("2 without a date" in text.get_text() for text in axes.texts)


def test_greys_can_be_told_apart() -> None:
    """Stale and current differ by more than half of the way from black to white."""
    light = np.array([0.299, 0.587, 0.114])
    stale, current = (np.dot(light, to_rgb(c)) for c in (charts.STALE, charts.CURRENT))
    assert current - stale > 0.5


def test_the_exposure_map_sums_up_what_is_too_much(inventory: pd.DataFrame) -> None:
    exposure = inventory.kms.exposure()
    many = pd.concat([exposure.assign(owner=f"team {n}") for n in range(20)])
    axes = charts.exposure_map(many, most=5)
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[-1] == "15 others"
    shown = axes.images[0].get_array()
    assert shown.sum() == pytest.approx(many["record_days"].sum())


@pytest.mark.parametrize(
    ("owners", "most", "names"),
    [
        (4, 3, ["o3", "o2", "o1", "o0"]),
        (5, 3, ["o4", "o3", "o2", "2 others"]),
        (4, 1, ["o3", "3 others"]),
        (2, 1, ["o1", "o0"]),
    ],
)
def test_as_many_owners_as_asked_for_have_a_line(owners: int, most: int, names: list[str]) -> None:
    many = pd.concat([exposure(owner=f"o{n}", record_days=n + 1.0) for n in range(owners)])
    axes = charts.exposure_map(many, most=most)
    assert [label.get_text() for label in axes.get_yticklabels()] == names


def test_a_map_is_titled_by_what_it_shows(inventory: pd.DataFrame) -> None:
    found = inventory.kms.exposure()
    assert charts.exposure_map(found).get_title(loc="left").startswith("Record-days of stale")
    records = charts.exposure_map(found, values="records")
    assert records.get_title(loc="left").startswith("Records, stale or not")
    oldest = charts.exposure_map(
        found.assign(owner=list("abcd")), values="oldest_stale_days", most=1
    )
    assert oldest.images[0].get_array().max() == found["oldest_stale_days"].max()
    with pytest.raises(FrameError, match=r"column 'owner' holds .*, and numbers are needed"):
        charts.exposure_map(found, values="owner")
    for most in (0, 2.5):
        with pytest.raises(ValueError, match="most is a whole number from 1"):
            charts.exposure_map(found, most=most)


def said_in(axes: Axes) -> str:
    return " ".join(text.get_text() for text in axes.texts)


def test_an_empty_chart_says_why(shared_world: World, inventory: pd.DataFrame) -> None:
    unknown = shared_world.frame().kms.inspect(now=shared_world.clock.now())
    nobody = charts.exposure_map(unknown.kms.exposure())
    assert said_in(nobody).startswith("nothing is known to be stale; 14 records are not known")
    current = inventory[~inventory["stale"]]
    assert said_in(charts.exposure_map(current.kms.exposure())) == "nothing is stale"
    forecast = charts.forecast_curves(rotation.forecast(current))
    assert said_in(forecast) == "nothing is to be sent"
    assert said_in(charts.simulation_curves({})) == "no records"
    assert said_in(charts.census_bars(inventory.iloc[:0].kms.census())) == "no records"
    assert said_in(charts.age_histogram(inventory.assign(age_days=np.nan))).endswith("with a date")


def test_versions_without_numbers_have_their_ids(shared_world: World) -> None:
    axes = charts.census_bars(shared_world.frame().kms.inspect().kms.census())
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert len(set(names)) == 8
    assert all(" version " in name for name in names)


def test_what_only_names_a_version_is_not_counted_on_it(shared_world: World) -> None:
    """In a timeline as in the census, where a cloud's own blob has no number."""
    versions = frames.versions(shared_world.lab)
    census = versions.assign(records=1)[["provider", "key_id", "key_version_id", "version_number"]]
    census = pd.concat([census, census.assign(version_number=pd.NA)]).assign(records=5)
    axes = charts.version_timeline(versions, census, now=START + timedelta(days=100))
    assert {text.get_text().strip() for text in axes.texts} == {f"v{n}: 5" for n in (1, 2, 3, 4)}
    without = census.assign(version_number=pd.array([pd.NA] * 16, "Int64"))
    axes = charts.version_timeline(versions, without, now=START + timedelta(days=100))
    assert "v1: 10" in said_in(axes)


def test_a_primary_version_that_was_just_made_has_its_count(shared_world: World) -> None:
    versions, now = frames.versions(shared_world.lab), shared_world.clock.now()
    census = versions.assign(records=12_345)
    axes = charts.version_timeline(versions, census, now=now + timedelta(hours=1))
    assert said_in(axes).count(" v4: 12,345") == 2
    assert axes.get_xlabel().endswith("the numbers are records")
    alone = charts.version_timeline(versions, now=now + timedelta(hours=1))
    assert "v4" not in said_in(alone)


def test_many_lines_are_drawn_in_many_ways(inventory: pd.DataFrame) -> None:
    """Each rate and simulation in its own, and the legend beside the axes."""
    forecast = charts.forecast_curves(rotation.forecast(inventory, rates=range(1, 8)))
    days = simulate(90, Arrivals(per_day=1), years=0.1).daily
    sixteen = charts.simulation_curves({str(n): days for n in range(16)})
    for axes, lines in ((forecast, 14), (sixteen, 16)):
        ways = [(each.get_color(), each._dash_pattern, each.get_marker()) for each in axes.lines]
        assert len(set(map(str, ways))) == lines
        assert axes.get_legend().get_bbox_to_anchor().x0 >= axes.bbox.x1


def test_one_simulation_is_named_or_given_alone() -> None:
    days = simulate(90, Arrivals(per_day=1), years=0.1).daily
    named = charts.simulation_curves({"each quarter": days})
    assert [text.get_text() for text in named.get_legend().get_texts()] == ["each quarter"]
    alone = charts.simulation_curves(days)
    assert alone.get_legend() is None
    assert alone.lines[0].get_ydata().tolist() == named.lines[0].get_ydata().tolist()
    with pytest.raises(FrameError, match="a DataFrame is needed, not Simulation"):
        charts.simulation_curves({"it": simulate(90, Arrivals(per_day=1), years=0.1)})


def test_short_simulations_are_in_days() -> None:
    for years, label in ((0.003, "days"), (0.1, "days"), (2, "years")):
        axes = charts.simulation_curves(simulate(90, Arrivals(per_day=1), years=years).daily)
        assert axes.get_xlabel() == label
        assert axes.get_xlim()[0] == 0
        assert axes.get_xlim()[1] >= 1


@pytest.mark.parametrize(
    ("chart", "maker"),
    [
        (charts.census_bars, "df.kms.census(lab) has it"),
        (charts.version_timeline, "frames.versions(lab) has it"),
        (charts.exposure_map, "df.kms.exposure() of an inventory has it"),
        (charts.forecast_curves, "rotation.forecast(inventory) has it"),
        (charts.burn_down, "a frames.Recording has it"),
        (charts.simulation_curves, "the daily of a simulation has it"),
    ],
)
def test_a_chart_says_what_makes_its_frame(chart, maker: str, shared_world: World) -> None:
    with pytest.raises(FrameError) as raised:
        chart(shared_world.frame())
    assert maker in str(raised.value)


def test_chinese_names_are_drawn_or_escaped_with_one_warning(
    inventory: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    exposure = inventory.kms.exposure().assign(owner="支付平台组")
    monkeypatch.setattr(shared, "_cjk_font", lambda: None)
    with pytest.warns(UserWarning, match="fonts-noto-cjk") as caught:
        axes = charts.exposure_map(exposure)
    axes.figure.canvas.draw()  # here a warning would be an error
    assert len(caught) == 1
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["\\u652f\\u4ed8\\u5e73\\u53f0\\u7ec4"]


def test_chinese_names_with_a_font_are_as_they_are(inventory: pd.DataFrame) -> None:
    if shared._cjk_font() is None:
        pytest.skip("no font with Chinese letters; install the package fonts-noto-cjk")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        axes = charts.exposure_map(inventory.kms.exposure().assign(owner="支付平台组"))
        axes.figure.canvas.draw()
    assert [label.get_text() for label in axes.get_yticklabels()] == ["支付平台组"]


def exposure(**columns: object) -> pd.DataFrame:
    found = {"owner": "shop", "provider": ["tencent", "ctyun"], "key_id": ["k-1", "k-2"]}
    return pd.DataFrame(found | {"record_days": [3.0, 4.0]} | columns)


@pytest.mark.parametrize(
    ("columns", "names"),
    [
        ({}, ["k-1", "k-2"]),
        ({"alias": ["orders", None]}, ["orders", "k-2"]),
        ({"alias": "orders"}, ["orders (tencent)", "orders (ctyun)"]),
        ({"alias": "orders", "provider": "ctyun"}, ["orders k-1", "orders k-2"]),
        ({"key_id": ["3f6c1111-1", "3f6c1111-2"]}, ["3f6c1111-1", "3f6c1111-2"]),
        ({"key_id": "k-1"}, ["k-1 (tencent)", "k-1 (ctyun)"]),
        ({"key_id": ["k-1", None]}, ["k-1", "ctyun, key not known"]),
    ],
)
def test_each_key_has_a_column_and_a_name_of_its_own(
    columns: dict[str, object], names: list[str]
) -> None:
    axes = charts.exposure_map(exposure(**columns))
    shown = dict(zip((each.get_text() for each in axes.get_xticklabels()), [4.0, 3.0], strict=True))
    assert axes.images[0].get_array().tolist() == [[4.0, 3.0]]
    assert shown == dict(zip(names, [3.0, 4.0], strict=True))


def test_versions_of_two_keys_of_one_id_have_lines_and_counts_of_their_own(
    shared_world: World,
) -> None:
    versions = frames.versions(shared_world.lab).assign(key_id="k-1")
    versions["key_version_id"] = versions["version_number"].astype("string")
    census = versions.assign(records=range(len(versions)))
    now = shared_world.clock.now() + timedelta(days=30)
    axes = charts.version_timeline(versions, census, now=now)
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["orders", "k-1"]
    assert [text.get_text() for text in axes.texts] == [
        f"v{n}: {records}" for records, n in enumerate([1, 2, 3, 4, 1, 2, 3, 4])
    ]
    bars = charts.census_bars(census)
    assert [label.get_text() for label in bars.get_yticklabels()] == [
        f"{name} v{n}" for name in names for n in (1, 2, 3, 4)
    ]


def test_a_lab_that_was_just_made_has_a_timeline() -> None:
    with Lab.in_memory(clock=ManualClock(START)) as lab:
        lab.tencent().create_key("orders")
        axes = charts.version_timeline(frames.versions(lab), now=START)
    axes.figure.canvas.draw()
    assert [text.get_text() for text in axes.texts] == ["v1"]


def test_signs_of_formulas_are_letters(inventory: pd.DataFrame) -> None:
    named = inventory.kms.exposure().assign(owner=r"a$_$b \$ 5", alias="$x^2$")
    axes = charts.exposure_map(named)
    axes.figure.canvas.draw()
    days = simulate(90, Arrivals(per_day=1), years=0.1).daily
    curves = charts.simulation_curves({"$_$": days, "$x$": days})
    curves.figure.canvas.draw()
    texts = [*axes.get_yticklabels(), *axes.get_xticklabels(), *curves.get_legend().get_texts()]
    assert [text.get_text() for text in texts][:2] == [r"a$_$b \$ 5", "$x^2$ (tencent)"]
    assert not any(text.get_parse_math() for text in texts)


def test_simulations_of_nothing_have_a_chart() -> None:
    nothing = simulate(90, Arrivals(per_day=0), years=0.1).daily
    for daily in ({}, {"nothing": nothing}, {"nothing": nothing, "as well": nothing}):
        charts.simulation_curves(daily).figure.canvas.draw()


def test_a_burn_down_is_of_what_was_re_encrypted() -> None:
    """A recording has more passes over the same records: planned before, counted after."""
    clock = ManualClock(START)
    recording = frames.Recording(clock)
    for doing, rows, total in [
        ("planning", 2000, None),
        ("re-encrypting", 1000, 2000),
        ("re-encrypting", 2000, 2000),
        ("counting", 1000, 2000),
        ("counting", 2000, 2000),
    ]:
        recording.watch.progress(Progress(doing, rows, total, {}))
        clock.advance(timedelta(seconds=10))
    (line,) = charts.burn_down(recording.frame()).lines
    assert line.get_xydata().tolist() == [[0.0, 1000.0], [10.0, 0.0]]


@pytest.mark.parametrize("rate", [0, -1, float("inf"), float("nan")])
def test_a_burn_down_needs_a_rate_above_nothing(rate: float) -> None:
    progress = pd.DataFrame({"at": pd.to_datetime(["2026-01-01"]), "left": [2]})
    with pytest.raises(ValueError, match="a rate is more than 0 records a second"):
        charts.burn_down(progress, rate=rate)


def test_a_timeline_needs_the_ids_of_versions(shared_world: World) -> None:
    with pytest.raises(FrameError, match="no column 'key_version_id'"):
        charts.version_timeline(frames.versions(shared_world.lab).drop(columns="key_version_id"))


def test_a_chart_says_which_column_it_needs(inventory: pd.DataFrame) -> None:
    for chart in (
        charts.census_bars,
        charts.age_histogram,
        charts.version_timeline,
        charts.burn_down,
        charts.exposure_map,
        charts.forecast_curves,
    ):
        with pytest.raises(FrameError, match="no column"):
            chart(inventory[["record_id"]])
