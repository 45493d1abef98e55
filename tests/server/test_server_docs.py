"""docs/wire.md lists the calls of CTyun as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_provider_calls import CTYUN_FIELDS

from kmslab.providers.ctyun.wire import CALLS
from kmslab.providers.parameters import Kind, Parameter

PAGE = Path(__file__).parents[2] / "docs" / "wire.md"


def shown(parameter: Parameter) -> str:
    kind = "" if parameter.kind is Kind.STRING else f": {parameter.kind.name.lower()}"
    text = f"{parameter.name}{kind}"
    return f"`{text}`" if parameter.required else f"`[{text}]`"


@pytest.mark.parametrize("call", CALLS)
def test_a_call_is_in_the_docs_with_its_fields(call: str) -> None:
    body = " ".join(shown(parameter) for parameter in CALLS[call].parameters)
    data = " ".join(f"`{field}`" for field in CTYUN_FIELDS[call][1].split())
    row = f"| `{call}` | {body} | {data} |" if data else f"| `{call}` | {body} | |"
    assert row in PAGE.read_text("utf-8").splitlines()
