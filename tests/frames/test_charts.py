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
    assert labels[-1] == "16 others"
    shown = axes.images[0].get_array()
    assert shown.sum() == pytest.approx(many["record_days"].sum())


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
