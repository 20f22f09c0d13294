"""Facial action units (FACS): names, the labels they vote for, phrases that describe them.

A table lists the action units of each label. `merr` is that of Emotion-LLaMA's paper, whose two
reprints differ in one unit of contempt (15 or 14); both are included. Of MMEVerse's table only the
units of surprise are published, which equal MERR's. `mmeverse` is therefore MERR's table with
disgust as in MER-Factory, under all label spellings of its twelve training sets. The phrases are
our own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Table = Mapping[str, tuple[int, ...]]  # label -> action units
NAMES: Mapping[int, str] = {
    1: "inner brow raiser",
    2: "outer brow raiser",
    4: "brow lowerer",
    5: "upper lid raiser",
    6: "cheek raiser",
    7: "lid tightener",
    9: "nose wrinkler",
    10: "upper lip raiser",
    11: "nasolabial deepener",
    12: "lip corner puller",
    14: "dimpler",
    15: "lip corner depressor",
    16: "lower lip depressor",
    17: "chin raiser",
    18: "lip pucker",
    20: "lip stretcher",
    22: "lip funneler",
    23: "lip tightener",
    24: "lip presser",
    25: "lips part",
    26: "jaw drop",
    27: "mouth stretch",
    28: "lip suck",
    43: "eyes closed",
    45: "blink",
}
# Templates use the first phrase of a unit; claims.py recognises all of them.
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
STRENGTHS = ((1.0, "slight"), (2.5, "clear"), (5.1, "strong"))  # upper bounds on OpenFace's 0 to 5
_MERR: Table = {
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
# Label of a table -> other spellings, in lower case.
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
TABLES: Mapping[str, Table] = {
    "merr": _MERR,
    "mmeverse": {**_MERR, "disgust": _DISGUST},
}


def get_table(name: str) -> Table:
    """Returns a table by name.

    Raises:
      ValueError: there is no such table.
    """
    if name not in TABLES:
        raise ValueError(f"no table of action units is named '{name}'; choose {', '.join(TABLES)}")
    return TABLES[name]


def units_of(label: str, table: Table) -> tuple[int, ...] | None:
    """Returns the units of a label in any known spelling; None if the table has no such label."""
    plain = label.strip().lower()
    for name, others in SPELLINGS.items():
        if plain == name or plain in others:
            return table.get(name)
    return None


def count_votes(units: Sequence[int], table: Table) -> dict[str, int]:
    """Counts the votes of action units for labels: a unit votes for every label that includes it.

    Source: MERR's figure.

    Args:
      units: numbers of the units that are present.
      table: action units of each label.

    Returns:
      Votes by label, highest first; labels without a vote are left out.
    """
    counts = {label: len(set(units) & set(members)) for label, members in table.items()}
    return dict(sorted(((k, n) for k, n in counts.items() if n), key=lambda kv: -kv[1]))


def winners(units: Sequence[int], table: Table) -> tuple[str, ...]:
    """Returns the labels with the most votes, ("neutral",) if there are no votes."""
    votes = count_votes(units, table)
    return tuple(k for k, n in votes.items() if n == max(votes.values())) or ("neutral",)


def unit_code(unit: int) -> str:
    """Formats a unit's number: 4 becomes `AU04`."""
    return f"AU{unit:02d}"


def unit_phrases(units: Sequence[int], *, pick: int = 0) -> list[str]:
    """Returns one phrase per unit; a unit without phrases gets its FACS name.

    Args:
      units: numbers of the units.
      pick: which of several synonyms, modulo their number.
    """
    out = []
    for unit in units:
        synonyms = PHRASES.get(unit) or (NAMES.get(unit, unit_code(unit)),)
        out.append(synonyms[pick % len(synonyms)])
    return out


def strength_phrases(intensities: Mapping[int, float], scale: float) -> list[str]:
    """Describes intensities, such as `clear lip corner puller`, strongest first.

    Args:
      intensities: intensity by unit.
      scale: the highest intensity of the measuring program.
    """
    ordered = sorted(intensities.items(), key=lambda kv: -kv[1])
    return [f"{_strength(5 * x / scale)} {NAMES.get(u, unit_code(u))}" for u, x in ordered]


def _strength(intensity: float) -> str:
    return next(
        (word for bound, word in STRENGTHS if intensity < bound),
        STRENGTHS[-1][1],
    )
