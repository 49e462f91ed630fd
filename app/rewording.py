"""The verb that has a corpus written in other words by another model."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from app.learning import BadRow, BadRowOption, PathArgument, left_out_told, print_left_out
from app.output import print_json, say
from app.progress import show_progress
from app.request import Request, read_path, verb


@verb("json", with_store=False)
def reword(
    request: Request,
    path: PathArgument,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            parser=read_path,
            metavar="FILE",
            help="The jsonl file, outside the corpus; one that reword wrote is gone on with.",
        ),
    ],
    endpoint: Annotated[
        str,
        typer.Option(
            "--endpoint",
            metavar="URL",
            help="Where a server speaks OpenAI's protocol, e.g. http://127.0.0.1:8000/v1; a key "
            "is taken from OPENAI_API_KEY.",
        ),
    ],
    model: Annotated[
        str, typer.Option("--model", metavar="NAME", help="What the server calls the model.")
    ],
    num: Annotated[
        int, typer.Option("--num", min=1, max=3, help="Rewordings of each document.")
    ] = 3,
    on_bad_row: BadRowOption = BadRow.stop,
) -> None:
    """Have a corpus written in other words by another model, for `ingest --rewordings`.

    Every document is sent to the endpoint. Read the file before you learn from it: what the model
    made up would be learned too.
    """
    from pipelines.corpora import read_corpus
    from pipelines.rewriting import MOST_TOKENS, check_endpoint, check_out, reword

    check_endpoint(endpoint)
    check_out(out, path)
    read = read_corpus(path, on_bad_row=on_bad_row.value)
    documents = read.documents
    if not request.as_json:
        print_left_out(read.skipped, read.left_out)
        say(f"{len(documents):,} documents go to {endpoint}")
    with show_progress() as progress:
        done = reword(documents, out, endpoint=endpoint, model=model, num=num, progress=progress)
    if request.as_json:
        print_json({**dataclasses.asdict(done), **left_out_told(read.skipped, read.left_out)})
        return
    say(f"{done.num_written:,} documents reworded into {out}")
    for number, what in (
        (done.num_known, "stood there already"),
        (done.num_empty, "got no whole answer; the next run asks them again"),
        (
            done.num_cut,
            f"answers left out: cut off at {MOST_TOKENS:,} tokens, or in the model's thoughts",
        ),
        (done.num_tokens, "tokens read and written by the model"),
    ):
        if number:
            say(f"{number:,} {what}")
    for line in done.refused:
        say(f"passed over {line}")
