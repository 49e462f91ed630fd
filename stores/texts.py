"""Documents' texts as objects: UTF-8, compressed with zstandard."""

from __future__ import annotations

from collections.abc import Iterable

import zstandard

from peer_cl.errors import DamageError, UnsupportedError
from stores.objects import ObjectStore
from stores.queries import Document


def compress_text(text: str) -> bytes:
    """Return a text as the bytes of an object.

    Example:
        >>> decompress_text(compress_text("naïve"))
        'naïve'
    """
    return zstandard.ZstdCompressor(level=10).compress(text.encode("utf-8"))


def decompress_text(data: bytes) -> str:
    """Return the text of an object's bytes.

    Raises: DamageError: when the bytes are not a compressed text.
    """
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
