"""The charts of the README; make.py writes them."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

import kmslab.frames as frames
from kmslab import charts
from kmslab.analysis.simulate import Arrivals, Campaign, simulate


def main(folder: Path) -> None:
    """Write three charts of a made-up history into a folder, each a small PNG."""
    made = frames.history(8_000)
    inventory = made.frame.kms.inspect(made.lab)
    versions = frames.versions(made.lab)
    exposure = frames.with_alias(inventory.kms.exposure(), versions)
    arrivals = Arrivals(per_day=500_000, initial=100_000_000)
    daily = {
        f"every {days} days, {rate}/s": simulate(days, arrivals, Campaign(rate=rate)).daily
        for days, rate in ((90, 50), (180, 100), (365, 50))
    }
    drawn = {
        "timeline": lambda ax: charts.version_timeline(
            versions, inventory.kms.census(), now=made.clock.now(), ax=ax
        ),
        "exposure": lambda ax: charts.exposure_map(exposure, ax=ax),
        "policies": lambda ax: charts.simulation_curves(daily, limit_days=400, ax=ax),
    }
    for name, draw in drawn.items():
        figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
        draw(axes)
        figure.savefig(folder / f"{name}.png", dpi=90, metadata={"Software": None})
        plt.close(figure)
