"""Counts and times of requests, as Prometheus reads them. Labels hold known words alone."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from typing import Final

from kmslab import __version__

BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
"""Upper bounds of the histogram of times, in seconds."""


class Metrics:
    """What a server has done. Written and read in the server's own thread."""

    def __init__(self) -> None:
        self.in_flight = 0
        self._requests: Counter[tuple[str, str, str]] = Counter()
        self._times: dict[str, list[int]] = {}
        self._seconds: dict[str, float] = {}

    def note(self, provider: str, action: str, code: str, seconds: float) -> None:
        """Count a request that was answered."""
        self._requests[provider, action, code] += 1
        times = self._times.get(provider)
        if times is None:
            times = self._times[provider] = [0] * (len(BUCKETS) + 1)
        times[bisect_left(BUCKETS, seconds)] += 1
        self._seconds[provider] = self._seconds.get(provider, 0.0) + seconds

    def text(self, dropped_log_lines: int = 0) -> str:
        """Everything, in the text format of Prometheus."""
        return "".join(f"{line}\n" for line in self._lines(dropped_log_lines))

    def _lines(self, dropped: int) -> Iterator[str]:
        yield "# HELP kmslab_info The version of kmslab."
        yield "# TYPE kmslab_info gauge"
        yield f'kmslab_info{{version="{__version__}"}} 1'
        yield "# HELP kmslab_requests_in_flight Requests that are being answered."
        yield "# TYPE kmslab_requests_in_flight gauge"
        yield f"kmslab_requests_in_flight {self.in_flight}"
        yield "# HELP kmslab_log_lines_dropped_total Log lines that nobody took in time."
        yield "# TYPE kmslab_log_lines_dropped_total counter"
        yield f"kmslab_log_lines_dropped_total {dropped}"
        yield "# HELP kmslab_requests_total Requests by provider, action and error code."
        yield "# TYPE kmslab_requests_total counter"
        for (provider, action, code), count in sorted(self._requests.items()):
            labels = f'provider="{provider}",action="{action}",code="{code}"'
            yield f"kmslab_requests_total{{{labels}}} {count}"
        yield "# HELP kmslab_request_seconds How long requests took."
        yield "# TYPE kmslab_request_seconds histogram"
        for provider, times in sorted(self._times.items()):
            yield from self._histogram(provider, times)

    def _histogram(self, provider: str, times: list[int]) -> Iterator[str]:
        count = 0
        for bound, times_below in zip((*map(str, BUCKETS), "+Inf"), times, strict=True):
            count += times_below
            labels = f'provider="{provider}",le="{bound}"'
            yield f"kmslab_request_seconds_bucket{{{labels}}} {count}"
        yield f'kmslab_request_seconds_sum{{provider="{provider}"}} {self._seconds[provider]:.6f}'
        yield f'kmslab_request_seconds_count{{provider="{provider}"}} {count}'
