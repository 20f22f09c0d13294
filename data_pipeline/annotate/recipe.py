"""Recipes as data: which agents are asked what, what a label is, and what is left out (recipes/*.toml, or the user's own file)."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.resources
import json
import tomllib
from pathlib import Path
from typing import Any

from data_pipeline.annotate.units import TABLES

AGENTS = ("visual", "audio", "audio_2", "reasoning")
FILTERS: dict[str, dict[str, Any]] = {  # kind: its settings and their defaults
    "votes": {"unmeasured": "keep", "least": 1},
    "contradiction": {"most": 0.5},
    "duplicates": {},
    "length": {"least": 5, "most": 250},
    "balance": {"times": 3.0},
    "neutral": {"share": 0.3},
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """How clips are annotated.

    Attributes:
      name: stands in every output.  table: of action units (units.py).
      agents: of AGENTS, asked in this order; `optional`: those without which a clip is kept.
      label: `given`: the clip's own, or what the action units speak for where it has none; `votes`: always the action units';
        `model`: what the reasoning agent concludes.
      label_guided: agents are told the label.  template: also write the coarse description, without a model.
      audio_for_reason: which audio note the reasoning agent reads: first, second, both, draw.
      frames: pictures beside that of the peak.  words, short_words: at most, of the reason and its short form.
      filters: (kind, settings), applied in this order.
    """

    name: str
    table: str = "merr"
    agents: tuple[str, ...] = AGENTS
    optional: tuple[str, ...] = ()
    label: str = "given"
    label_guided: bool = True
    template: bool = False
    audio_for_reason: str = "first"
    frames: int = 4
    words: int = 150
    short_words: int = 60
    filters: tuple[tuple[str, dict[str, Any]], ...] = ()

    def __post_init__(self) -> None:
        self._one_of("table", self.table, tuple(TABLES))
        self._one_of("label", self.label, ("given", "votes", "model"))
        self._one_of("audio_for_reason", self.audio_for_reason, ("first", "second", "both", "draw"))
        for name in (*self.agents, *self.optional):
            self._one_of("agents", name, AGENTS)
        if self.label == "model" and ("reasoning" not in self.agents or self.label_guided):
            raise ValueError("label = 'model' needs the agent 'reasoning' and label_guided = false")
        if not 0 <= self.frames <= 64 or self.words < 10 or self.short_words < 5:
            raise ValueError("frames: 0 to 64; words: at least 10; short_words: at least 5")
        for kind, settings in self.filters:
            self._one_of("filter kind", kind, tuple(FILTERS))
            if strange := set(settings) - set(FILTERS[kind]):
                raise ValueError(f"filter '{kind}' has no setting {', '.join(sorted(strange))}")
            for key, value in settings.items():
                if key == "unmeasured":
                    self._one_of("unmeasured", value, ("keep", "drop"))
                elif (
                    isinstance(value, bool)
                    or not isinstance(value, (int, float))
                    or not 0 <= value < 1e6
                ):
                    raise ValueError(
                        f"filter '{kind}': {key} is {value!r}, needs a number of at least 0"
                    )
                elif key == "share" and value >= 1:
                    raise ValueError(f"filter 'neutral': share is {value}, needs a number below 1")
        if not self.agents or len(set(self.agents)) < len(self.agents):
            raise ValueError("agents: at least one, each once")
        if "reasoning" in self.agents[:-1]:
            raise ValueError("agents: 'reasoning' comes last, it reads what the others say")

    @staticmethod
    def _one_of(what: str, value: str, known: tuple[str, ...]) -> None:
        if value not in known:
            raise ValueError(f"{what} is '{value}', needs one of {', '.join(known)}")

    def asked(self) -> dict[str, Any]:
        """What a clip's annotation depends on; filters come later."""
        return {k: v for k, v in dataclasses.asdict(self).items() if k != "filters"}

    def digest(self) -> str:
        """16 hex digits of everything, prompts included."""
        text = json.dumps([dataclasses.asdict(self), prompt_hashes()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def shipped() -> tuple[str, ...]:
    """Names of the recipes that come with emojax."""
    folder = importlib.resources.files("data_pipeline.annotate").joinpath("recipes")
    return tuple(
        sorted(p.name.removesuffix(".toml") for p in folder.iterdir() if p.name.endswith(".toml"))
    )


def recipe_text(name: str) -> str:
    """A shipped recipe as it is written, or the user's file.

    Raises:
      ValueError: neither.
    """
    if name in shipped():
        return (
            importlib.resources.files("data_pipeline.annotate")
            .joinpath("recipes", f"{name}.toml")
            .read_text()
        )
    path = Path(name)
    if path.suffix == ".toml" and path.is_file():
        return path.read_text(encoding="utf-8")
    raise ValueError(
        f"--recipe {name}: there are {', '.join(shipped())}, or give a .toml file of your own"
    )


def load_recipe(name: str) -> Recipe:
    """A shipped recipe by name, or a file.

    Raises:
      ValueError: there is none, or something in it is not known; the text says what.
    """
    try:
        found = tomllib.loads(recipe_text(name))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{name}: no valid TOML ({error})") from error
    filters = found.pop("filter", [])
    known = {f.name: f for f in dataclasses.fields(Recipe)}
    if strange := set(found) - set(known) | (set(found) & {"filters"}):
        raise ValueError(
            f"{name}: no setting {', '.join(sorted(strange))}; there are {', '.join(known)}"
        )
    if "name" not in found:
        raise ValueError(f"{name}: a recipe needs a name")
    for key, value in found.items():
        wanted = {"int": int, "bool": bool, "str": str}.get(str(known[key].type), list)
        if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
            raise ValueError(f"{name}: {key} is {value!r}, needs {known[key].type}")
    if not isinstance(filters, list) or not all(
        isinstance(f, dict) and "kind" in f for f in filters
    ):
        raise ValueError(f"{name}: every [[filter]] needs a kind, one of {', '.join(FILTERS)}")
    pairs = tuple((f["kind"], {k: v for k, v in f.items() if k != "kind"}) for f in filters)
    lists = {k: tuple(v) for k, v in found.items() if isinstance(v, list)}
    try:
        return Recipe(**{**found, **lists}, filters=pairs)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def prompt(agent: str) -> str:
    """The text of an agent's prompt file; both audio agents have one."""
    name = f"{agent.removesuffix('_2')}.txt"
    return (
        importlib.resources.files("data_pipeline.annotate")
        .joinpath("prompts", name)
        .read_text(encoding="utf-8")
    )


def prompt_hashes() -> dict[str, str]:
    """First 16 hex digits of each prompt file's SHA-256."""
    return {
        a: hashlib.sha256(prompt(a).encode()).hexdigest()[:16]
        for a in ("visual", "audio", "reasoning")
    }
