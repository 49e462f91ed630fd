"""What is compressed says its size, and what is too large for its kind is not unpacked."""

import numpy as np
import pytest
import zstandard

from peer_cl.errors import DamageError, InputError
from stores import compress_text, decompress_text, packing, texts
from stores.packing import pack, unpack_all


@pytest.fixture(autouse=True)
def unpacked(monkeypatch):
    """The sizes of all that was unpacked."""
    sizes, real = [], zstandard.ZstdDecompressor

    class Decompressor:
        def decompress(self, data):
            found = real().decompress(data)
            sizes.append(len(found))
            return found

    monkeypatch.setattr("zstandard.ZstdDecompressor", Decompressor)
    return sizes


def bomb(size):
    """A frame that unpacks to so many NUL bytes, made in pieces."""
    writer = zstandard.ZstdCompressor(level=1).compressobj(size=size)
    piece = bytes(2**20)
    return b"".join([*(writer.compress(piece) for _ in range(size // 2**20)), writer.flush()])


def test_a_text_that_is_too_large_is_not_unpacked(unpacked):
    data = bomb(texts.MOST_BYTES + 2**20)
    assert len(data) < 2**16
    with pytest.raises(
        DamageError, match="text would unpack to 269,484,032 bytes; the most is 268"
    ):
        decompress_text(data)
    assert unpacked == []


def test_a_text_that_does_not_say_its_size_is_not_unpacked(unpacked):
    with pytest.raises(DamageError, match="a document's text does not say its size"):
        decompress_text(zstandard.ZstdCompressor(write_content_size=False).compress(b"a" * 99))
    with pytest.raises(DamageError, match="the object holds no document's text"):
        decompress_text(b"no frame")
    assert unpacked == []


def test_what_is_written_can_be_read(monkeypatch):
    monkeypatch.setattr(texts, "MOST_BYTES", 8)
    assert decompress_text(compress_text("naïve 8")) == "naïve 8"
    with pytest.raises(InputError, match="a text has 9 bytes; the most is 8: divide it"):
        compress_text("naïve 89")


def test_arrays_that_are_too_large_one_by_one_or_together_are_not_unpacked(unpacked, monkeypatch):
    with pytest.raises(
        DamageError, match="uses would unpack to 68,157,440 bytes; the most is 67,1"
    ):
        unpack_all([bomb(packing._MOST_BYTES + 2**20)])
    one = pack(np.array([3, 5]), np.array([0.5, 0.5]))
    monkeypatch.setattr(packing, "_MOST_BYTES_TOGETHER", 20)
    assert len(unpack_all([one, one])[0]) == 4
    unpacked.clear()
    with pytest.raises(DamageError, match="uses would unpack to 9 bytes; the most is 2"):
        unpack_all([one, one, one])
    assert unpacked == []
