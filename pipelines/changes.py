"""What changed in the files of a domain since they were ingested."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipelines.corpora import Corpus
from stores.queries import Document


@dataclass(frozen=True)
class FileChanges:
    """Documents of a domain that are in its files no longer."""

    replaced_ids: frozenset[str] = frozenset()
    """Of files that were read and hold other texts now."""
    missing_ids: frozenset[str] = frozenset()
    """Of files that are gone from a folder that was read."""
    missing_files: tuple[str, ...] = ()


def file_changes(corpus: Corpus, known: Iterable[Document]) -> FileChanges:
    """Return which of a domain's documents a corpus, read anew, holds no longer.

    Files are told by their paths. One that could not be read now is as it was; a text that moved to
    another file of the corpus is still there.
    """
    given = {one.document_id for one in corpus.documents}
    absent = [one for one in known if one.file is not None and one.document_id not in given]
    missing = [
        one
        for one in absent
        if any(Path(str(one.file)).is_relative_to(folder) for folder in corpus.folders)
        and not Path(str(one.file)).exists()
    ]
    return FileChanges(
        replaced_ids=frozenset(one.document_id for one in absent if one.file in corpus.files),
        missing_ids=frozenset(one.document_id for one in missing),
        missing_files=tuple(sorted({str(one.file) for one in missing})),
    )
