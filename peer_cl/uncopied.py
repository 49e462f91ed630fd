"""Why a model with pools attached is neither copied nor pickled, and what to do instead."""

from __future__ import annotations

from peer_cl.errors import UnsupportedError


def no_copy(what: str) -> UnsupportedError:
    """Return the error for copying or pickling what is tied to a base by hooks.

    A copy would listen to the first one's base, and nothing here is ever unpickled.

    Args:
        what: what was to be copied.
    """
    return UnsupportedError(
        f"a {what} cannot be copied or pickled: save_pretrained writes its pools and settings, and "
        "PeerModel.from_pretrained reads them onto a base; for the base alone, detach() the model "
        "first"
    )
