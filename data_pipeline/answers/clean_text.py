"""Takes an answer out of what surrounds it: thoughts, tags, tokens of chat templates, Markdown."""

from __future__ import annotations

import re
import unicodedata

_THOUGHT = r"think|thinking|thoughts?|reasoning|analysis|reflection|scratchpad|cot"
_THOUGHTS = re.compile(
    rf"[<\[◁]({_THOUGHT})[>\]▷].*?(?:[<\[◁]/\1[>\]▷]|$)"
    r"|<\|begin_of_(thought)\|>.*?(?:<\|end_of_thought\|>|$)",
    re.DOTALL | re.IGNORECASE,
)
_END_OF_THOUGHTS = re.compile(rf"[<\[◁]/(?:{_THOUGHT})[>\]▷]|<\|end_of_thought\|>", re.IGNORECASE)
# what comes before these is the question, or a draft
_TURN = re.compile(
    r"\[/INST\]|<\|im_start\|>\s*assistant|<\|start_header_id\|>\s*assistant\s*<\|end_header_id\|>"
    r"|<start_of_turn>\s*model|\bASSISTANT\s*:|^\W*assistant\s*:|<\|channel\|>final<\|message\|>"
    r"|assistantfinal(?=\S)",
    re.MULTILINE,
)
_ANSWER = re.compile(
    r"[<\[](answer|final[ _-]?answer|final)[>\]](.*?)(?:[<\[]/\1[>\]]|$)", re.DOTALL | re.IGNORECASE
)
_BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_LATEX = re.compile(r"\\(?:text|textbf|mathrm|mathbf)\s*\{([^{}]*)\}|\$+|\\[()\[\]]")
_ELEMENT = re.compile(r"<([a-z][a-z_ -]{1,30})>([^<>]*)</\1>", re.IGNORECASE)
_HTML = re.compile(r"</?(?:b|i|u|em|strong|p|br|div|span|s|code|pre|ul|ol|li|h\d)\s*/?>", re.I)
_TAG = re.compile(r"</?[a-z_]+/?>|<\|[a-z_]+\|>|</s>|\[/?(?:answer|final)\]", re.IGNORECASE)
_STRUCK = re.compile(r"~~.+?~~")
_FENCE = re.compile(r"```[a-z]*", re.IGNORECASE)
_EMPHASIS = re.compile(r"\*{1,3}|`+|(?<!\w)_{1,2}(?=\w)|(?<=\w)_{1,2}(?!\w)")
_LINE_MARK = re.compile(r"^[ \t]*(?:#{1,6}[ \t]+|>[ \t]*)+", re.MULTILINE)
_QUOTES = str.maketrans(dict.fromkeys("“”„«»‟〝〞", '"') | dict.fromkeys("’‘‛", "'"))


def without_thoughts(text: str) -> str:
    """A response without what a model thought first, also where one of the tags is missing.

    A chat template may have swallowed the opening tag; a limit of tokens cuts the closing one.
    """
    return _END_OF_THOUGHTS.split(_THOUGHTS.sub(" ", text))[-1]


def _inside_answer_tags(text: str) -> str:
    answers = [m.group(2) for m in _ANSWER.finditer(text) if m.group(2).strip()]
    if answers:
        return answers[-1]
    boxed = _BOXED.findall(text)
    return boxed[-1] if boxed else ""


def answer_part(response: str) -> str:
    """The part of a response that answers.

    What stands in answer tags or a box, else what follows the thoughts, else an answer within the
    thoughts. Full-width letters and curly quotes become plain ones.
    """
    text = unicodedata.normalize("NFKC", response).translate(_QUOTES).replace("\r\n", "\n")
    spoken = without_thoughts(text)
    part = _inside_answer_tags(spoken)
    if not part and not spoken.strip():
        part = _inside_answer_tags(text)
    text = part or spoken
    after = _TURN.split(text)[-1]
    return after if after.strip() else text


def plain_text(text: str) -> str:
    """A text without tags, fences and Markdown.

    `<emotion>sad</emotion>` becomes a line `emotion: sad`, a struck word goes, a line break stays.
    """
    text = _LATEX.sub(lambda m: m.group(1) or " ", _STRUCK.sub(" ", text))
    text = _HTML.sub(
        lambda m: "\n" if m.group()[1:3].lower() in ("br", "/p", "/l", "/d") else "", text
    )
    text = _ELEMENT.sub(r"\n\1: \2\n", text)
    text = _FENCE.sub(" ", _TAG.sub(" ", text))
    return _EMPHASIS.sub("", _LINE_MARK.sub("", text)).strip()
