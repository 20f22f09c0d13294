"""Whether a text denies an emotion that it names, in the languages that models answer in."""

from __future__ import annotations

import re

from data_pipeline.answers.cues import CONTRAST, INTERJECTION, NOT_ONLY, NOT_ONLY_AFTER, VERB
from data_pipeline.answers.negation import is_negated

# a negation reaches beyond the verb that it belongs to: `doesn't seem to be`
_RAISED = re.compile(
    r"(?:n't|\bnot|\bnever)\s+(?:\w+ly\s+)?(?:think|believe|say|call|describe|label|classify|feel|"
    r"mean|suggest|indicate|imply|consider|find|interpret|conclude|look like|seem like|"
    r"come across as|qualify as|reflect|convey|express|show|display|exhibit|reveal|detect|observe|"
    r"notice|see)\b(?P<reach>[^,;]*)$"
)
_WRONG = re.compile(
    r"\b(?:(?:wrong|mistake|incorrect|inaccurate|misleading|unfair|premature|falsch|incorrecto|"
    r"faux) (?:to|zu|de)?|too \w+ to (?:be|seem|look|count)|mistaken? for|"
    r"mistaking (?:\w+ ){0,2}for|confused? with|misread as|misinterpreted as|rul(?:e|es|ed|"
    r"ing) out|exclud\w+|dismiss\w+|reject\w+|nothing|nobody|no one|not (?:that|because|as if)|"
    r"unlike|as opposed to|contrary to|nowhere near|by no means|in no way|less)\b(?P<reach>[^,;]*)$"
)
_COMPARED = re.compile(
    r"\b(?:more (?:of )?\S+(?: \S+){0,2} than|(?:eher|mehr) \S+ als|más \S+ que|plus \S+ que|"
    r"plutôt \S+ que|più \S+ che|mais \S+ (?:do )?que|скорее \S+,? чем)\s+(?:\w+\s+){0,2}$"
)
# `sad more than angry`; `he is more than angry` denies nothing
_MORE_THAN = re.compile(
    r"(?P<word>[^\W\d_]+),? (?:more than|mehr als|más que|plus qu(?:e |')|più che|mais (?:do )?que)"
    r"\s*(?:\w+\s+){0,2}$"
)
_DEGREES = frozenset(
    "much far even no not nothing little so viel mucho beaucoup molto muito".split()
)
# what a negation before them does not reach behind
_CUT = re.compile(
    r":|\(|\s[-–—]\s|,\s*(?:so|thus|therefore|hence|leaving|just|only|merely|simply|rather|eher|"
    r"nur|vielmehr|solo|sólo|más bien|plutôt|seulement|juste|piuttosto|apenas|só|а|скорее|только)\b"
)
_NO_DENIAL = re.compile(
    r"\bnot so much\b.{1,40}?\bas\b|\bnever (?:\w+ ){0,5}(?:so|more)\b|"
    r"\bcan(?:'t|not) (?:hide|contain|conceal|suppress|stop)\b|\bcould(?:n't| not) be\b|"
    r"\b(?:cannot help|can't help|couldn't be (?:more|any)|nothing but|why not|no less than)\b|"
    rf"{NOT_ONLY.pattern}"
)
_WORDS = re.compile(
    r"(?<!\w)(?:nicht|kein\w*|weder|ohne|statt|anstatt|anstelle|keineswegs|kaum|niemals|no|ni|sin|"
    r"nunca|jamás|tampoco|ningún|ninguna?|en lugar de|en vez de|lejos de|todo menos|"
    r"alles andere als|tout sauf|tutt'altro che|tudo menos|pas|sans|jamais|aucune?|guère|"
    r"au lieu d[e']|plutôt qu[e']|loin d[e']|non|né|senza|nessun[oa]?|anziché|invece di|"
    r"piuttosto che|lontan[oa] da|não|nem|sem|nenhuma?|em vez de|longe de|не|ни|без|вместо|нет|"
    r"далек\w* от|niet|geen|zonder|không|bukan|tidak)(?!\w)"
)
_NEXT_CLAUSE = re.compile(
    r"(?<!\w)(?:está|estaba|parece|es|se ve|ist|sieht|wirkt|scheint|est|semble|paraît|è|sembra|é|"
    r"выглядит|кажется|он|она|il|elle|él|ella|er|sie|lui|lei|ele|ela|y está|und ist|et est|"
    r"al contrario|muestra|expresa|zeigt|montre|exprime|mostra|esprime|показывает|sino|sondern|zij|"
    r"hij|is)(?!\w)"
)
_CHINESE = re.compile(
    r"(?:不是|并非|並非|并不|並不|不能说|谈不上|与其说是?|没有?|沒有?|毫无|毫無|缺乏|排除|绝非|"
    r"远非|而非|不(?![仅但只断由禁过错如]|得不|知不觉)|无(?![疑法比论])|無(?![疑法比論])|非(?!常)|"
    r"未)(?P<reach>[^,。;]{0,18})$"
)
_CHINESE_CONTRAST = re.compile(
    "[ぁ-ん]|而是|但|却|反而|只是|不如说|更(?:像|多)是|忍不住|掩饰不住|掩饰"
)
_AFTER = re.compile(
    r"^(?:ness)?\s*(?:\w+\s+)??(?:is|are|was|does|do|can|could|would|seems?|looks?)(?:n't|\s+not\b|"
    r"\s+(?:unlikely|ruled out|excluded|absent|wrong|incorrect|out\b|less likely|never|missing|"
    r"lacking|be (?:ruled out|excluded)))|^\s*(?:(?:[?:=(–—,-]|\.{2,})\s*)?(?:no|nope|nein|non|否|"
    r"不是)(?=[.,;)!\n]|$)|^\s*[(,]?\s*(?:can be |is )?(?:ruled out|excluded|unlikely|absent|"
    r"not present|not detected|not shown)\b|^(?: emotion)?,? (?:cannot|can't) be\b|^ (?:ist|"
    r"wäre) (?:nicht|ausgeschlossen)|^ değil|^[^、。,(\s]{0,4}?(?:では|じゃ|で(?=な)|とは|くは|"
    r"わけでは|しては|て)(?:な|あり|言え|いえ|い?な)|^[ぁ-ん]{0,4}?(?:ません|いない|おらず|"
    r"なかった)(?!でした?か)|^[ぁ-ん]{0,2}でも(?:[^、。,]{0,10}でも)?な|"
    r"^[^、。,(\s]{0,3}?(?:くな[いくか]|というより|よりも|より(?=も?[、\w])|どころか)|"
    r"^[^,。\s]{0,4}?(?:이|가|은|는|지|지는|하지|하지는|것은|것이|한 것이)?\s*(?:아니|아닌|않|못하|"
    r"없|기보다|보다)|^ ?(?:नहीं)|^[^,。]{0,2}的可能性(?:很|较|不)?(?:小|低|大(?<=不大))|"
    r"^(?:不太可能|被排除|可以排除|不成立)"
)


def is_denied(before: str, after: str) -> bool:
    """Whether a sentence denies an emotion that it names.

    Args:
      before: the sentence up to the emotion word, in lower case.
      after: what follows the word, up to the end of the sentence.
    """
    if NOT_ONLY_AFTER.match(after):
        return False
    before = _NO_DENIAL.sub(" ", INTERJECTION.sub(" ", _CUT.split(before)[-1]))
    if is_negated(before) or _AFTER.match(after) or _COMPARED.search(before):
        return True
    compared = _MORE_THAN.search(before)
    if compared and not (VERB.fullmatch(compared["word"]) or compared["word"] in _DEGREES):
        return True
    for pattern in (_RAISED, _WRONG):
        match = pattern.search(before)
        if match and not re.search(
            rf"{CONTRAST.pattern}|\band (?:is|looks|seems|appears|feels|sounds|shows)\b"
            r"|\bin favou?r of\b|\bleav(?:es|ing)\b|\bremains?\b|\bso\b|\bthan\b",
            match.group("reach"),
        ):
            return True
    return _is_denied_elsewhere(before)


def _is_denied_elsewhere(before: str) -> bool:
    """Denials in other languages than English."""
    chinese = _CHINESE.search(before)
    if chinese and not _CHINESE_CONTRAST.search(chinese.group("reach")):
        return True
    last = max(_WORDS.finditer(before), key=lambda m: m.start(), default=None)
    if last is None:
        return False
    reach = before[last.end() :]
    verb = _NEXT_CLAUSE.search(reach)
    if CONTRAST.search(reach) or (verb and reach[: verb.start()].strip()):
        return False
    first, *more = reach.split(",")
    if not more:
        return len(first.split()) <= 7
    return len(first.split()) <= 5 and all(
        len(piece.split()) <= 2 and not _NEXT_CLAUSE.search(piece) for piece in more
    )
