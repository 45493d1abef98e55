"""Draw the charts of the README: python docs/img/charts.py"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

import kmslab.frames as frames
from kmslab import charts
from kmslab.analysis.simulate import Arrivals, Campaign, simulate

HERE = Path(__file__).parent


def main() -> None:
    """Three charts of a made-up history, each as a small PNG beside this file."""
    made = frames.history(20_000)
    inventory = made.frame.kms.inspect(made.lab, now=made.clock.now())
    versions = frames.versions(made.lab)
    names = versions[["key_id", "alias"]].drop_duplicates()
    arrivals = Arrivals(per_day=500_000, initial=100_000_000)
    daily = {
        f"every {days} days, {rate}/s": simulate(days, arrivals, Campaign(rate=rate)).daily
        for days, rate in ((90, 50), (180, 100), (365, 50))
    }
    drawn = {
        "timeline": lambda ax: charts.version_timeline(
            versions, inventory.kms.census(), now=made.clock.now(), ax=ax
        ),
        "exposure": lambda ax: charts.exposure_map(
            inventory.kms.exposure().merge(names, on="key_id", how="left"), ax=ax
        ),
        "policies": lambda ax: charts.simulation_curves(daily, limit_days=400, ax=ax),
    }
    for name, draw in drawn.items():
        figure, axes = plt.subplots(figsize=(5.2, 3), layout="constrained")
        draw(axes)
        figure.savefig(HERE / f"{name}.png", dpi=100, metadata={"Software": None})


if __name__ == "__main__":
    main()
