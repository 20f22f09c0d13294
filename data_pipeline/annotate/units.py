"""Facial action units (FACS): what they are called, which labels they speak for, and how they are put into words.

A table gives the units of each label. `merr` is that of Emotion-LLaMA's paper; its two reprints differ in one unit of contempt (15 or
14), both of which stand here. Of MMEVerse's table only the units of surprise are published, which are MERR's; `mmeverse` is
therefore MERR's with disgust as MER-Factory has it, under all spellings of its twelve training sets. Phrases are our own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

NAMES: Mapping[int, str] = {
    1: "inner brow raiser", 2: "outer brow raiser", 4: "brow lowerer", 5: "upper lid raiser", 6: "cheek raiser",
    7: "lid tightener", 9: "nose wrinkler", 10: "upper lip raiser", 11: "nasolabial deepener", 12: "lip corner puller",
    14: "dimpler", 15: "lip corner depressor", 16: "lower lip depressor", 17: "chin raiser", 18: "lip pucker",
    20: "lip stretcher", 22: "lip funneler", 23: "lip tightener", 24: "lip presser", 25: "lips part", 26: "jaw drop",
    27: "mouth stretch", 28: "lip suck", 43: "eyes closed", 45: "blink",
}  # fmt: skip
# The first phrase of a unit is the one that templates use; all are read as claims of it (data_pipeline/annotate/claims.py).
PHRASES: Mapping[int, tuple[str, ...]] = {
    1: ("raised inner brows", "inner brows raised"),
    2: ("raised outer brows", "one raised brow"),
    4: ("lowered brows", "frown"),
    5: ("wide open eyes", "widened eyes"),
    6: ("lifted cheeks", "crow's feet"),
    7: ("tightened lids", "narrowed eyes"),
    9: ("wrinkled nose",),
    10: ("raised upper lip", "curled lip"),
    12: ("broad smile", "grin"),
    14: ("crooked smirk", "dimples"),
    15: ("drooping mouth corners", "mouth corners turned down"),
    17: ("pushed up chin",),
    20: ("stretched lips", "tense lips"),
    23: ("pressed thin lips", "pursed lips"),
    25: ("parted lips",),
    26: ("dropped jaw", "mouth wide open"),
    28: ("sucked in lips", "biting lips"),
}
STRENGTHS = ((1.0, "slight"), (2.5, "clear"), (5.1, "strong"))  # of OpenFace's 0 to 5
_MERR: Mapping[str, tuple[int, ...]] = {
    "happy": (6, 12, 14),
    "angry": (4, 5, 7, 10, 17, 23),
    "sad": (1, 4, 14, 15),
    "surprise": (1, 2, 5, 26),
    "fear": (1, 2, 4, 5, 7, 20, 26),
    "doubt": (25,),
    "contempt": (10, 12, 14, 15, 17),
    "worried": (20, 28),
    "neutral": (),
}
_DISGUST = (9, 15)
# label of a table: other spellings, in lower case
SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "happy": ("happiness", "joy", "joyful", "excited"),
    "angry": ("anger", "annoyance", "frustration"),
    "sad": ("sadness", "disappointment"),
    "surprise": ("surprised",),
    "fear": ("scared", "fearful"),
    "doubt": ("doubt/confusion", "doubtful"),
    "contempt": (),
    "worried": ("anxiety", "worry", "disquietment"),
    "disgust": ("disgusted", "aversion"),
    "neutral": ("calm",),
}
TABLES: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "merr": _MERR,
    "mmeverse": {**_MERR, "disgust": _DISGUST},
}


def table_named(name: str) -> Mapping[str, tuple[int, ...]]:
    """A table by its name.

    Raises:
      ValueError: there is no such table.
    """
    if name not in TABLES:
        raise ValueError(
            f"there is no table of action units '{name}': there are {', '.join(TABLES)}"
        )
    return TABLES[name]


def units_of(label: str, table: Mapping[str, tuple[int, ...]]) -> tuple[int, ...] | None:
    """The units of a label in any known spelling; None where the table says nothing of it."""
    plain = label.strip().lower()
    for name, others in SPELLINGS.items():
        if plain == name or plain in others:
            return table.get(name)
    return None


def votes(units: Sequence[int], table: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """{label of the table: how many of the units speak for it}, highest first, labels without a vote left out.

    Source: MERR's figure, where every unit of a clip votes for all labels that have it.
    """
    count = {label: len(set(units) & set(own)) for label, own in table.items()}
    return dict(sorted(((k, n) for k, n in count.items() if n), key=lambda kv: -kv[1]))


def winners(units: Sequence[int], table: Mapping[str, tuple[int, ...]]) -> tuple[str, ...]:
    """Labels with the most votes; ("neutral",) where no unit votes."""
    found = votes(units, table)
    return tuple(k for k, n in found.items() if n == max(found.values())) or ("neutral",)


def unit_code(unit: int) -> str:
    """4 -> `AU04`."""
    return f"AU{unit:02d}"


def phrases(units: Sequence[int], *, pick: int = 0) -> list[str]:
    """One phrase a unit, in the order given; `pick` chooses among synonyms. A unit without phrase has its FACS name."""
    out = []
    for unit in units:
        own = PHRASES.get(unit) or (NAMES.get(unit, unit_code(unit)),)
        out.append(own[pick % len(own)])
    return out


def with_strength(units: Mapping[int, float], scale: float) -> list[str]:
    """`clear lip corner puller`, strongest first; scale: the highest intensity of the measuring program."""
    ordered = sorted(units.items(), key=lambda kv: -kv[1])
    word = lambda x: next(w for most, w in STRENGTHS if 5 * x / scale < most or most > 5)  # noqa: E731
    return [f"{word(x)} {NAMES.get(unit, unit_code(unit))}" for unit, x in ordered]
