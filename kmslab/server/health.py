"""Whether the lab can be used, for whoever watches over the server."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from kmslab.errors import LabError
from kmslab.lab import Lab
from kmslab.server.answers import problem_of

HEALTH_SECONDS: Final = 5.0
"""How long a lab may take to answer; a lab's choice, like all that is said of health."""


class Health:
    """Looks at the lab in a thread of its own: a lab that stands still holds nothing up here.

    Whoever asks while somebody looks is told what that look finds.
    """

    def __init__(self, lab: Lab, seconds: float) -> None:
        self._lab = lab
        self._seconds = seconds
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kmslab health")
        self._look: asyncio.Future[str | None] | None = None

    async def answer(self, _request: Request) -> Response:
        """200, or 503 with what is wrong."""
        look = self._look
        if look is None or look.done():
            loop = asyncio.get_running_loop()
            look = self._look = loop.run_in_executor(self._thread, self._problem)
        done, _ = await asyncio.wait([look], timeout=self._seconds)
        problem = look.result() if done else f"no answer within {self._seconds:g} s"
        if problem is None:
            return JSONResponse({"status": "ok"})
        return JSONResponse({"status": "failing", "problem": problem}, 503)

    def close(self) -> None:
        """Let go of the thread, which ends after its look."""
        self._thread.shutdown(wait=False)

    def _problem(self) -> str | None:
        try:
            self._lab.credentials.list()
        except LabError as error:
            return problem_of(error)
        return None
