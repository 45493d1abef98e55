"""kmslab call: a request in the provider's own words, and its own answer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from kmslab.cli.failures import REFUSED
from kmslab.cli.opening import Opening, opens_lab
from kmslab.cli.options import Json, ProviderName, Region, example, settings
from kmslab.cli.output import narrate, one_line, write_json

app = typer.Typer(**settings())


@app.command(
    epilog=example(
        "kmslab call tencent ListKeys '{\"Limit\":10}'",
        "kmslab call ctyun reEncrypt - < request.json",
    )
)
@opens_lab
def call(
    opening: Opening,
    provider: Annotated[ProviderName, typer.Argument(metavar="tencent|ctyun")],
    action: Annotated[str, typer.Argument(metavar="ACTION", help="The call by its own name.")],
    request: Annotated[
        str,
        typer.Argument(metavar="JSON|-", help="Its parameters or body; - reads them from stdin."),
    ] = "{}",
    credential: Annotated[
        str | None,
        typer.Option("--credential", metavar="NAME", help="Who calls; else the lab's owner."),
    ] = None,
    rate_limit: Annotated[
        bool, typer.Option("--rate-limit", help="Keep the documented limit on calls a second.")
    ] = False,
    language: Annotated[
        Literal["zh-CN", "en-US"] | None,
        typer.Option("--language", help="Of Tencent's messages; else zh-CN."),
    ] = None,
    region: Region = None,
    as_json: Json = False,  # the envelope is JSON anyway
) -> None:
    """Make one call with the provider's own request and answer.

    Only the provider's envelope goes to stdout. Exits 1 where it holds an error, whichever it is,
    and tells the lab's owner on stderr what was wrong.
    """
    from kmslab.cli.streams import read_object
    from kmslab.errors import SettingError
    from kmslab.keys import kms_in
    from kmslab.providers.tencent.service import TencentKms

    if language is not None and provider != "tencent":
        raise SettingError("--language is Tencent's; CTyun's messages have one language")
    body = read_object(request, "the request")
    with opening() as lab:
        kms = kms_in(lab, provider, region, credential=credential, rate_limit=rate_limit)
        if isinstance(kms, TencentKms):
            envelope = kms.call(action, body, language=language or "zh-CN")
        else:
            envelope = kms.call(action, body)
    write_json(envelope)
    if _failed(envelope):
        if credential is None and kms.last_refusal:
            narrate(f"refused: {one_line(kms.last_refusal)}")
        raise typer.Exit(REFUSED)


def _failed(envelope: dict[str, Any]) -> bool:
    if "Response" in envelope:
        return "Error" in envelope["Response"]
    return envelope.get("errorCode") is not None
