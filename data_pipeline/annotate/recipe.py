"""Recipes: agents, source of the labels, filters.

The built-in recipes are recipes/*.toml; users may give files of their own.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.resources
import json
import tomllib
from pathlib import Path
from typing import Any

from data_pipeline.annotate.units import TABLES
from data_pipeline.llm.endpoint import prompt_hash
from data_pipeline.suggestions import no_such

AGENTS = ("visual", "audio", "audio_2", "reasoning")
FILTER_DEFAULTS: dict[str, dict[str, Any]] = {  # kind -> settings with their defaults
    "votes": {"unmeasured": "keep", "least": 1},
    "contradiction": {"most": 0.5},
    "duplicates": {},
    "length": {"least": 5, "most": 250},
    "balance": {"times": 3.0},
    "neutral": {"share": 0.3},
}
_PACKAGE = importlib.resources.files("data_pipeline.annotate")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """How clips are annotated. The field names are the keys of recipe files.

    Attributes:
      name: name of the recipe in every output.
      table: name of the table of action units, see units.py.
      agents: some of AGENTS, asked in this order.
      optional: agents whose failure does not leave the clip out.
      label: `given`: the clip's label, or the winner of the action units' votes if it has none;
        `votes`: always the winner of the votes; `model`: the reasoning agent's conclusion.
      label_guided: whether the prompts contain the label.
      template: whether to write the coarse description too, without a model.
      audio_for_reason: which audio note the reasoning agent reads: first, second, both or draw.
      frames: number of pictures in addition to the peak frame.
      words: maximum number of words of the reason.
      short_words: maximum number of words of its short form.
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
        """Validates all fields.

        Raises:
          ValueError: a field is invalid.
        """
        _check_choice("table", self.table, tuple(TABLES))
        _check_choice("label", self.label, ("given", "votes", "model"))
        audio_choices = ("first", "second", "both", "draw")
        _check_choice("audio_for_reason", self.audio_for_reason, audio_choices)
        for name in (*self.agents, *self.optional):
            _check_choice("agents", name, AGENTS)
        if self.label == "model" and ("reasoning" not in self.agents or self.label_guided):
            raise ValueError("label = 'model' needs the agent 'reasoning' and label_guided = false")
        if not 0 <= self.frames <= 64 or self.words < 10 or self.short_words < 5:
            raise ValueError("frames: 0 to 64; words: at least 10; short_words: at least 5")
        for kind, settings in self.filters:
            _check_filter(kind, settings)
        if not self.agents or len(set(self.agents)) < len(self.agents):
            raise ValueError("agents: at least one, each once")
        if "reasoning" in self.agents[:-1]:
            raise ValueError("agents: 'reasoning' comes last, it reads the replies of the others")

    def request_settings(self) -> dict[str, Any]:
        """Returns the fields that a clip's annotation depends on; filters are applied later."""
        return {k: v for k, v in dataclasses.asdict(self).items() if k != "filters"}

    def digest(self) -> str:
        """Returns 16 hex digits of the hash of the recipe and its prompts."""
        text = json.dumps([dataclasses.asdict(self), prompt_hashes()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _check_choice(what: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{what} is '{value}', needs one of {', '.join(choices)}")


def _check_filter(kind: str, settings: dict[str, Any]) -> None:
    _check_choice("filter kind", kind, tuple(FILTER_DEFAULTS))
    if unknown := set(settings) - set(FILTER_DEFAULTS[kind]):
        raise ValueError(f"filter '{kind}' has no setting {', '.join(sorted(unknown))}")
    for key, value in settings.items():
        if key == "unmeasured":
            _check_choice("unmeasured", value, ("keep", "drop"))
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 <= value < 1e6:
            raise ValueError(f"filter '{kind}': {key} is {value!r}, needs a number of at least 0")
        if key == "share" and value >= 1:
            raise ValueError(f"filter 'neutral': share is {value}, needs a number below 1")


def builtin_recipes() -> tuple[str, ...]:
    """Returns the names of the recipes that come with emojax."""
    names = (p.name for p in _PACKAGE.joinpath("recipes").iterdir())
    return tuple(sorted(n.removesuffix(".toml") for n in names if n.endswith(".toml")))


def recipe_text(name: str) -> str:
    """Returns the text of a built-in recipe or of a user's file.

    Raises:
      ValueError: there is neither.
    """
    if name in builtin_recipes():
        return _PACKAGE.joinpath("recipes", f"{name}.toml").read_text(encoding="utf-8")
    path = Path(name)
    if path.suffix == ".toml" and path.is_file():
        return path.read_text(encoding="utf-8")
    raise ValueError(
        f"--recipe: {no_such('recipe', name, builtin_recipes())}, or give a .toml file of your own"
    )


def load_recipe(name: str) -> Recipe:
    """Loads a built-in recipe by name, or a file.

    Raises:
      ValueError: there is no such recipe, or a setting is unknown or invalid.
    """
    try:
        fields = tomllib.loads(recipe_text(name))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{name}: not valid TOML ({error})") from error
    filters = fields.pop("filter", [])
    known = {f.name: f for f in dataclasses.fields(Recipe)}
    if unknown := set(fields) - set(known) | (set(fields) & {"filters"}):
        raise ValueError(f"{name}: {no_such('setting', min(unknown), known)}")
    if "name" not in fields:
        raise ValueError(f"{name}: a recipe needs a name")
    for key, value in fields.items():
        expected = {"int": int, "bool": bool, "str": str}.get(str(known[key].type), list)
        if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
            raise ValueError(f"{name}: {key} is {value!r}, needs {known[key].type}")
    if not isinstance(filters, list) or not all(
        isinstance(f, dict) and "kind" in f for f in filters
    ):
        kinds = ", ".join(FILTER_DEFAULTS)
        raise ValueError(f"{name}: every [[filter]] needs a kind, one of {kinds}")
    pairs = tuple((f["kind"], {k: v for k, v in f.items() if k != "kind"}) for f in filters)
    lists = {k: tuple(v) for k, v in fields.items() if isinstance(v, list)}
    try:
        return Recipe(**{**fields, **lists}, filters=pairs)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def prompt_text(agent: str) -> str:
    """Returns the text of an agent's prompt file; both audio agents share one."""
    name = f"{agent.removesuffix('_2')}.txt"
    return _PACKAGE.joinpath("prompts", name).read_text(encoding="utf-8")


def prompt_hashes() -> dict[str, str]:
    """Returns the first 16 hex digits of each prompt file's SHA-256, by agent."""
    return {a: prompt_hash(prompt_text(a)) for a in ("visual", "audio", "reasoning")}
