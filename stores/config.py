"""store.toml: what is fixed when a store is made, and what makes a folder a store."""

from __future__ import annotations

import dataclasses
import tomllib
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import tomli_w

from peer_cl.errors import DamageError, InputError, StoreFormatError
from stores.objects import replace_file
from stores.records import utc_now

FORMAT_VERSION = 8
CONFIG_NAME = "store.toml"


@dataclass(frozen=True, kw_only=True)
class StoreConfig:
    """What is fixed at `init` and never changes: base, host layers, budget, places."""

    store_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    """The registry holds the same one, so that the two cannot be mixed up."""
    created_at: str = field(default_factory=utc_now)
    base_id: str
    """Hub id or folder of the frozen base model."""
    base_weights_sha256: str
    base_tokenizer_sha256: str
    architecture: str
    """Model type of the base ("llama")."""
    dtype: str = "fp32"
    """In which the base is loaded: one of `peer_cl.bases.DTYPES`."""
    num_layers: int
    width: int
    """D, of the base's hidden states."""
    host_layers: tuple[int, ...]
    """Layers beside which pools stand, ascending."""
    state_layer: int
    """Layer after which the router reads hidden states."""
    base_trial: dict[str, float] = field(default_factory=dict)
    """How far logits with experts lay from those of a plain call, by the way of calling the base:
    see `peer_cl.trial.try_base`."""
    background_object: str = ""
    """Object with the background statistics; `Registry.create` puts it and fills this in."""
    budget: float = 0.02
    """b: a scored document loses at most -log(1 - b) nats over the base."""
    capacity: int = 16
    """Most domains that may be live at once; each has the prior b / capacity."""
    keep_text: bool = True
    encoder: str = "all-mpnet-base-v2"
    """What makes vectors of units and questions: see `pipelines.encoder`."""
    objects_url: str | None = None
    """fsspec URL of the objects; None: they lie in the store's folder."""
    database_url: str | None = None
    """PostgreSQL URL of the registry; None: it is registry.sqlite in the store's folder."""
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        object.__setattr__(self, "host_layers", tuple(self.host_layers))
        if not 0 < self.budget < 1:
            raise InputError(f"the budget must lie between 0 and 1, not {self.budget}")
        if self.capacity < 1:
            raise InputError(f"the capacity must be at least 1, not {self.capacity}")
        layers = self.host_layers
        if not layers or sorted(set(layers)) != list(layers):
            raise InputError(f"host layers must be ascending and not empty, not {list(layers)}")
        if not all(0 <= layer < self.num_layers for layer in (*layers, self.state_layer)):
            raise InputError(
                f"host layers {list(layers)} and state layer {self.state_layer} must lie within "
                f"the base's {self.num_layers} layers"
            )
        for what, url in (("objects", self.objects_url), ("database", self.database_url)):
            if url is not None and urlsplit(url).password is not None:
                raise InputError(
                    f"the {what} URL holds a password, and {CONFIG_NAME} is plain text: leave it "
                    "to the file system's own settings, PGPASSFILE or PGPASSWORD"
                )

    def write(self, folder: Path) -> None:
        """Write store.toml into a folder, durably."""
        values = {k: v for k, v in dataclasses.asdict(self).items() if v is not None}
        values["host_layers"] = list(self.host_layers)
        replace_file(folder / CONFIG_NAME, tomli_w.dumps(values).encode())

    @classmethod
    def read(cls, folder: Path) -> StoreConfig:
        """Read store.toml of a folder.

        Raises:
            StoreFormatError: when there is no store, or one of another format.
            DamageError: when the file cannot be understood.
        """
        path = folder / CONFIG_NAME
        try:
            values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise StoreFormatError(
                f"no store at {folder}; make one with `peer-cl init`, or name another with --store"
            ) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise DamageError(f"{path} is damaged ({error}); restore it from a copy") from None
        found = values.get("format_version")
        if found != FORMAT_VERSION:
            raise StoreFormatError(
                f"{folder} has store format {found}, and this version reads {FORMAT_VERSION} only: "
                "make a new store with `peer-cl init` and ingest again"
            )
        try:
            return cls(**values)
        except (TypeError, InputError) as error:
            raise DamageError(f"{path} is damaged ({error}); restore it from a copy") from None
