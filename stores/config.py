"""store.toml: what is fixed when a store is made, and what makes a folder a store."""

from __future__ import annotations

import dataclasses
import shlex
import tomllib
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import tomli_w

from peer_cl.durable import replace_file
from peer_cl.errors import DamageError, InputError, StoreFormatError
from stores.words import check_words

FORMAT_VERSION = 1
FILE_NAME = "store.toml"
_WORDS = (
    "store_id",
    "created_at",
    "base_id",
    "base_weights_sha256",
    "base_tokenizer_sha256",
    "architecture",
    "background_object",
    "ordinary_object",
    "objects_url",
    "database_url",
)
"""Fields that are text, or None where they may be left out."""


@dataclass(frozen=True, kw_only=True)
class StoreConfig:
    """What is fixed at `init` and never changes: the base, its taps, the budget, the places.

    Raises: InputError: when a value cannot be (a budget outside (0, 1), no host layer, ...).
    """

    store_id: str
    """A uuid4 in hex; the registry holds the same one, so that the two cannot be mixed up."""
    created_at: str
    """ISO 8601, UTC."""
    base_id: str
    """Hub id or folder of the frozen base model."""
    base_weights_sha256: str
    """Hash of the base's weights."""
    base_tokenizer_sha256: str
    """Hash of the base's tokenizer."""
    architecture: str
    """Model type of the base ("llama")."""
    num_layers: int
    """Layers of the base."""
    width: int
    """Width D of the base's hidden states."""
    host_layers: tuple[int, ...]
    """Layers beside which pools stand, ascending; the first is the tap."""
    signature_layer: int
    """Layer whose hidden state signatures read."""
    background_object: str
    """Object that holds the background statistics."""
    ordinary_object: str | None = None
    """Object that holds what host layers read in ordinary text; None in older stores, whose pools
    do not learn to say nothing to it."""
    budget: float = 0.02
    """b: a scored document loses at most -log(1 - b) nats over the base."""
    capacity: int = 16
    """Most domains that may be live at once; each has the share b / capacity."""
    name_odds: float = 0.0
    """What a pool has beside its share where a given context names its domain, as odds against the
    base; 0: nothing, and the file does not mention it."""
    keep_text: bool = True
    """Whether the documents' texts are kept as objects."""
    objects_url: str | None = None
    """fsspec URL of the objects, when they are not in the store's folder; of few kinds:
    `stores.objects.SCHEMES`."""
    database_url: str | None = None
    """PostgreSQL URL of the registry, when it is not registry.sqlite. Leave the password to
    PGPASSFILE or PGPASSWORD: this file is plain text."""
    format_version: int = FORMAT_VERSION
    """Format of the store's folder."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "host_layers", tuple(self.host_layers))
        for name in _WORDS:
            if getattr(self, name) is not None:
                check_words(name, getattr(self, name))
        if not isinstance(self.budget, Real) or not 0 < self.budget < 1:
            raise InputError(f"the budget must lie between 0 and 1, not {self.budget!r}")
        # Of 1.5 two pools would enter, each with the share b / 1.5: more than b in all.
        if not isinstance(self.capacity, Integral) or isinstance(self.capacity, bool):
            raise InputError(f"the capacity must be a whole number, not {self.capacity!r}")
        if self.capacity < 1:
            raise InputError(f"the capacity must be at least 1, not {self.capacity}")
        if not 0 <= self.name_odds < float("inf"):
            raise InputError(f"name_odds must be 0 or more, not {self.name_odds}")
        layers = self.host_layers
        if not layers or sorted(set(layers)) != list(layers) or layers[0] < 0:
            raise InputError(f"host layers must be ascending and not empty, not {list(layers)}")
        if layers[-1] >= self.num_layers or not 0 <= self.signature_layer < self.num_layers:
            raise InputError(
                f"host layers {list(layers)} and signature layer {self.signature_layer} must lie "
                f"within the base's {self.num_layers} layers"
            )

    @property
    def tap(self) -> int:
        """The first host layer: what lies below it is shared by base and branches."""
        return self.host_layers[0]

    def write(self, path: Path) -> None:
        """Write the file at once or not at all."""
        values = {k: v for k, v in dataclasses.asdict(self).items() if v is not None}
        values["host_layers"] = list(self.host_layers)
        if not self.name_odds:  # so that earlier versions can read it
            del values["name_odds"]
        text = "# Made by `peer-cl init`; do not edit: pools and shares depend on it.\n"
        replace_file(Path(path), (text + tomli_w.dumps(values)).encode())

    @classmethod
    def read(cls, path: Path) -> StoreConfig:
        """Read store.toml.

        Raises:
            StoreFormatError: when there is no such file, or it is of a newer format.
            DamageError: when it cannot be parsed, or keys are missing or unknown.
        """
        path = Path(path)
        try:
            values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            folder = path.parent
            raise StoreFormatError(
                f"no store at {folder}; make one with `peer-cl init --store "
                f"{shlex.quote(str(folder))}`"
            ) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise DamageError(f"{path} is damaged ({error}); restore it from a copy") from None
        _check_format(path, values.get("format_version"))
        return _from_values(cls, path, values)


def _check_format(path: Path, found: Any) -> None:
    """Refuse a format that this version does not know."""
    if not isinstance(found, int):
        raise DamageError(f"{path} is damaged (format_version is {found!r}); restore it")
    if found > FORMAT_VERSION:
        raise StoreFormatError(
            f"{path.parent} has store format {found}; this version reads up to {FORMAT_VERSION}: "
            "install a newer peer-cl"
        )


def _from_values(cls: type[StoreConfig], path: Path, values: dict[str, Any]) -> StoreConfig:
    """Build the config, naming the keys that do not fit."""
    fields = {field.name: field for field in dataclasses.fields(cls)}
    unknown = sorted(set(values) - set(fields))
    missing = sorted(
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and name not in values
    )
    if unknown or missing:
        raise DamageError(
            f"{path} is damaged (missing keys: {missing}, unknown keys: {unknown}); restore it"
        )
    try:
        return cls(**values)
    except (TypeError, InputError) as error:
        raise DamageError(f"{path} is damaged ({error}); restore it from a copy") from None
