"""Takes an answer out of what surrounds it: thoughts, tags, tokens of chat templates, Markdown."""

from __future__ import annotations

import re
import unicodedata

from data_pipeline.llm.reply_text import strip_thoughts

# what comes before these is the question, or a draft
_TURN = re.compile(
    r"\[/INST\]|<\|im_start\|>\s*assistant|<\|start_header_id\|>\s*assistant\s*<\|end_header_id\|"
    r">|<start_of_turn>\s*model|\bASSISTANT\s*:|^\W*assistant\s*:|<\|channel\|>final<\|message\|>|"
    r"assistantfinal(?=\S)|(?<=\?)\s*(?i:a|assistant|ai|bot|model|答)\s*:(?!\s*(?i:yes|no)\b)",
    re.MULTILINE,
)
_ANSWER = re.compile(
    r"[<\[](answer|final[ _-]?answer|final)[>\]](.*?)(?:[<\[]/\1[>\]]|$)", re.DOTALL | re.IGNORECASE
)
_BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_LATEX = re.compile(r"\\(?:text|textbf|mathrm|mathbf)\s*\{([^{}]*)\}|\$+|\\[()\[\]]")
_ELEMENT = re.compile(r"<([a-z][a-z_ -]{1,30})>([^<>]*)</\1>", re.IGNORECASE)
_HTML = re.compile(r"</?(?:b|i|u|em|strong|p|br|div|span|s|code|pre|ul|ol|li|h\d)\s*/?>", re.I)
# `<sad>` may be the answer; these are not
_TAG = re.compile(
    r"</[a-z_]+>|<(?:s|pad|unk|[be]os|img|image\w*|vid\w*|audio\w*|answer|final|label|emotions?|"
    r"output|response|result|reason\w*|explanation|think\w*|\w+[ _]?here)/?>|<\|[a-z_]+\|>"
    r"|\[/?(?:answer|final)\]",
    re.IGNORECASE,
)
# `angry? no. sad? yes.`
_ANSWERED = re.compile(
    r"\s*\?\s*(?:(?:a|answer)\s*:\s*)?(?:(?:(?P<hardly>not (?:really|at all|quite|exactly)|hardly|"
    r"wrong|no way|far from it|(?:definitely|certainly|absolutely|of course|probably) not|"
    r"(?:quite )?the opposite|on the contrary)|definitely|certainly|absolutely|of course|indeed|"
    r"very much(?: so)?|exactly)(?=\s*(?:[,.;!:–—-]|$))|(?P<no>no|nope|nah|nein|non|não|нет|nee|"
    r"いいえ|아니요?|否|不是?)|yes|yep|yeah|ja|oui|sí|sim|да|はい|네|"
    r"是的?)(?!\w)(?P<end>\s*(?:[,.;!:–—-]+\s*|$))?",
    re.IGNORECASE | re.MULTILINE,
)
# the question of `Question: is she sad: yes`
_ASKED = re.compile(
    r"^\W*(?:q|question)\s*:\s*(?=[^\n?]*: (?:yes|no)$)", re.IGNORECASE | re.MULTILINE
)
_STRUCK = re.compile(r"~~.+?~~")
_MAX_PART = 5000  # characters of the beginning and of the end of an answer that are read
_MARK = re.compile("[☑✅✔☐❌✗✘❎]")
_FENCE = re.compile(r"```[a-z]*", re.IGNORECASE)
_EMPHASIS = re.compile(r"\*{1,3}|`+|(?<!\w)_{1,2}(?=\w)|(?<=\w)_{1,2}(?!\w)")
_LINE_MARK = re.compile(r"^[ \t]*(?:#{1,6}[ \t]+|>[ \t]*)+", re.MULTILINE)
_QUOTES = str.maketrans(dict.fromkeys("“”„«»‟〝〞", '"') | dict.fromkeys("’‘‛", "'"))


def _inside_answer_tags(text: str) -> str:
    answers = [m.group(2) for m in _ANSWER.finditer(text) if m.group(2).strip()]
    boxed = _BOXED.findall(answers[-1] if answers else text)
    return boxed[-1] if boxed else answers[-1] if answers else ""


def _marks_as_words(text: str) -> str:
    """Ticked and crossed items as `item: yes` and `item: no`, if there are at least two."""
    text = re.sub(r"\[[xX]\]", "☑", re.sub(r"\[ ?\](?=\s*\w)", "☐", text))
    marks = _MARK.findall(text)
    if len(marks) < 2:
        return text
    first = bool(re.match(rf"[\s*•-]*{_MARK.pattern}", text))
    item = r"[ \t]*([^\n☑✅✔☐❌✗✘❎]+)"
    pattern = rf"({_MARK.pattern})\ufe0f?{item}" if first else rf"{item}({_MARK.pattern})\ufe0f?"
    mark, name = (1, 2) if first else (2, 1)
    return re.sub(
        pattern,
        lambda m: f"{m.group(name).strip(' ,;-:')}: {'yes' if m.group(mark) in '☑✅✔' else 'no'}\n",
        text,
    )


def _yes_or_no(match: re.Match[str]) -> str:
    """`: no` for `? No`, on a line of its own if the answer goes on after a comma or full stop."""
    word = "no" if match["no"] or match["hardly"] else "yes"
    return f": {word}" + ("" if match["end"] is None else "\n")


def answer_part(response: str) -> str:
    """The part of a response that answers.

    It is in answer tags or a box; else it is the text behind the thoughts; else it is an answer
    within the thoughts. Full-width letters and curly quotes become plain ones.
    """
    response = response.strip()
    if len(response) > 2 * _MAX_PART:  # a model that repeats itself
        response = f"{response[:_MAX_PART]}\n{response[-_MAX_PART:]}"
    text = unicodedata.normalize("NFKC", response).translate(_QUOTES).replace("\r\n", "\n")
    after = _TURN.split(text)[-1]
    text = after if after.strip() else text
    spoken = strip_thoughts(text)
    part = _inside_answer_tags(spoken)
    if not part and not spoken.strip():
        part = _inside_answer_tags(text)
    return part or spoken


def plain_text(text: str) -> str:
    """A text without tags, fences and Markdown.

    `<emotion>sad</emotion>` becomes a line `emotion: sad`, a struck word goes, a line break stays.
    """
    text = _marks_as_words(text)
    text = _LATEX.sub(lambda m: m.group(1) or " ", _STRUCK.sub(" ", text))
    text = _HTML.sub(
        lambda m: "\n" if m.group()[1:3].lower() in ("br", "/p", "/l", "/d") else "", text
    )
    text = _ELEMENT.sub(r"\n\1: \2\n", text)
    text = _ASKED.sub("", _ANSWERED.sub(_yes_or_no, _FENCE.sub(" ", _TAG.sub(" ", text))))
    return _EMPHASIS.sub("", _LINE_MARK.sub("", text)).strip()
