"""Documents' texts as objects: UTF-8, compressed with zstandard."""

from __future__ import annotations

from collections.abc import Iterable

import zstandard

from peer_cl.errors import DamageError, InputError, UnsupportedError
from stores.frames import frame_size
from stores.objects import ObjectStore
from stores.queries import Document

MOST_BYTES = 2**28
"""Of one text, in UTF-8. It would take days to learn, so that no store holds a longer one."""


def compress_text(text: str) -> bytes:
    """Return a text as the bytes of an object.

    Raises: InputError: when it is longer than MOST_BYTES.

    Example:
        >>> decompress_text(compress_text("naïve"))
        'naïve'
    """
    data = text.encode("utf-8")
    if len(data) > MOST_BYTES:
        raise InputError(f"a text has {len(data):,} bytes; the most is {MOST_BYTES:,}: divide it")
    return zstandard.ZstdCompressor(level=10).compress(data)


def decompress_text(data: bytes) -> str:
    """Return the text of an object's bytes.

    Raises: DamageError: when the bytes are not a compressed text, or one longer than MOST_BYTES.
    """
    frame_size(data, MOST_BYTES, "document's text")
    try:
        return zstandard.ZstdDecompressor().decompress(data).decode("utf-8")
    except (zstandard.ZstdError, UnicodeDecodeError) as error:
        raise DamageError(f"the object holds no document's text: {error}") from None


def read_text(objects: ObjectStore, document: Document) -> str:
    """Return a document's text, verified.

    Raises:
        UnsupportedError: when its store keeps no texts.
        DamageError: when the object is damaged or missing.
    """
    if document.text_object is None:
        raise UnsupportedError(
            f"the text of document {document.document_id} was not kept (keep_text)"
        )
    return decompress_text(objects.read(document.text_object))


def put_texts(objects: ObjectStore, texts: Iterable[str]) -> list[str]:
    """Store texts and return their objects' ids, in order."""
    return objects.put_many(compress_text(text) for text in texts)
