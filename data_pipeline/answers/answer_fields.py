"""Fields of an answer (`Emotion: sad`, table rows) and what their names mean."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence

from data_pipeline.answers.cues import CHOICE, CONCLUSION, EMOTION_NOUN, PERSON_NOUN, whole_words

# Ranks of fields, the strongest last; ASIDE never names the emotion, PROSE is read as text.
ASIDE, PROSE, WEAK, LABEL, ANSWER, FINAL = range(6)


def _words(lines: Sequence[str]) -> re.Pattern[str]:
    """Whole words; those of scripts without blanks anywhere. `_` is a blank within a word."""
    words = [word for line in lines for word in line.split()]
    latin = [w for w in words if w[0].isascii() or "\u00c0" <= w[0] <= "\u04ff"]
    other = [w for w in words if w not in latin]
    return re.compile("|".join([whole_words(latin), *other]))


_FINAL = _words(
    [
        "final|overall|ultimate|resulting|dominant|primary|main|predominant|principal|most_likely|"
        "top",
        "finale?|dominante?|principale?|hauptemotion|haupt\\w*|gesamt\\w*|endgültig\\w*|итог\\w*|"
        "основн\\w*",
        "最终|最終|主要|主导|主導|最も|総合|최종|주요|주된|综合|整体".replace("|", " "),
    ]
)
_ANSWER_NOUN = _words(
    [
        "answers?|label|labels|predictions?|classification|class|category|results?|output|verdict",
        "conclusion|choice|selection|selected|decision|option_chosen|chosen|response|"
        "determination|ans",
        "antwort|ergebnis|fazit|kategorie|klasse|schlussfolgerung|auswahl|respuesta|etiqueta|clase",
        "categoría|resultado|predicción|conclusión|elección|réponse|étiquette|classe|catégorie|"
        "résultat",
        "choix|risposta|etichetta|categoria|risultato|conclusione|scelta|resposta|rótulo|previsão",
        "conclusão|escolha|ответ|метка|класс|категория|результат|вывод|antwoord|cevap|sonuç|"
        "odpowiedź",
        "答案 回答 标签 標籤 预测 預測 结论 結論 结果 結果 類別 类别 分类 判断 判斷 答え ラベル "
        "予測 判定 分類 정답 답변 답 라벨 레이블 결론 결과 예측 분류 الإجابة الجواب उत्तर",
    ]
)
_EMOTION_NOUN = _words(
    [
        "emotions?|emotional|feelings?|affect|affective|emotionen|emotionale\\w*|gefühle?|gefuehl|"
        "gefühls\\w*",
        "emoción|emociones|emocional|emoción\\w*|sentimiento|émotions?|émotionnel\\w*|ressenti|"
        "emozion[ei]|emotivo",
        "emoção|emoções|sentimento|эмоци\\w+|чувств\\w+|emotie|gevoel|duygu|emocja|cảm_xúc|emosi|"
        "bewegung",
        "情绪 情緒 情感 感情 心情 気持ち 감정 정서 الشعور العاطفة المشاعر भावना",
    ]
)
_SENTIMENT_NOUN = _words(
    [
        "sentiments?|sentimental|polarity|attitude|valence|stimmungslage|polarität|polaridad|"
        "polarité",
        "情感倾向 情感傾向 情感极性 情感極性 极性 倾向 極性 センチメント 감성",
    ]
)
_INTENT_NOUN = _words(
    [
        "intents?|intentions?|intentionen|absicht|intención|intenção|intenzione|dialogue_act|"
        "намерение",
        "意图 意圖 意図 의도",
    ]
)
_WEAK = _words(
    [
        "expressions?|mood|state|stimmung|ausdruck|estado|humor|état|humeur|stato|umore|настроение",
        "状态 狀態 状態 상태 기분 表情",
    ]
)
# a feeling of something or somebody else, or a question
_ASIDE = _words(
    [
        "scene|background|music|atmosphere|ambience|ambiance|setting|environment|context|weather|"
        "lighting",
        "voice|tone|audio|vocal|acoustic|speech|prosody|pitch|facial|face|visual|body|gestures?|"
        "posture",
        "eyes|mouth|text|textual|subtitles?|transcript|dialogue|lexical|verbal|video|frames?",
        "options?|choices|candidates?|possible_(?:emotions|labels|answers|options|choices|"
        "categories)|available|list|categories|labels_to|choose_from|"
        "given",
        "secondary|other|others|second|alternative|alternatives|excluded|ruled_out|incorrect|wrong",
        "absent|rejected|dismissed|discarded|eliminated|denied|unlikely|least|false|missing",
        "initial|initially|previous|earlier|first_impression|bystanders?|friend|crowd|audience|"
        "opposite",
        "intensity|strength|level|confidence|certainty|score|probability|arousal|dominance|"
        "likelihood",
        "question|prompt|instruction|task|user|human|note|disclaimer|time|duration|id|name|gender|"
        "age",
        "tonfall|stimme|hintergrund|szene|musik|sicherheit|konfidenz|intensität|tono|voz|escena|"
        "música",
        "confianza|intensidad|ton|voix|scène|musique|confiance|intensité|voce|scena|musica|fiducia",
        "intensità|tom|cena|confiança|intensidade|тон|голос|уверенность|сцена|музыка",
        "语气 語氣 语调 語調 声音 聲音 场景 場景 氛围 氛圍 背景 音乐 音樂 置信度 强度 強度 面部 "
        "动作 動作 选项 選項 问题 問題 次要 口調 声 雰囲気 場面 音楽 信頼度 確信度 選択肢 質問 "
        "말투 목소리 분위기 배경 음악 신뢰도 강도 질문",
    ]
)
# `not emotion`, `emotions not shown`; `not sure, but the answer` denies nothing
_DENIED = re.compile(
    r"^(?:not|non)\b|(?<!\bif )(?:\bnot|n't|\bnever|\bnicht|\bpas|\bне|不是|非)"
    r"(?! (?:only|just|sure|certain|clear\w*|obvious|strong\w*|specified|stated|known)\b)"
)
_NOT_SHOWN = re.compile(
    r"(?:not|nicht)(?: (?:present|shown|observed|seen|detected|selected|chosen|visible|found|"
    r"evident|expressed|displayed|likely|applicable))?"
)
_PROSE = _words(
    [
        "reasons?|reasoning|rationale|explanations?|explain|justification|evidence|analysis|"
        "description",
        "observations?|summary|details?|clues?|cues|because|why|thoughts?|thinking|step|caption|"
        "remarks?",
        "begründung|grund|erklärung|beschreibung|analyse|razón|motivo|explicación|justificación|"
        "análisis",
        "raison|explication|justification|ragione|spiegazione|motivazione|analisi|razão|explicação",
        "justificativa|análise|причина|объяснение|обоснование|анализ|описание|zusammenfassung|"
        "resumen",
        "理由 原因 解释 解釋 依据 依據 分析 描述 推理 根拠 説明 解説 이유 근거 설명 분석 총평",
    ]
)
_ONE_WORD = re.compile(r"\((?:one word|single word|1 word|label only|chosen|selected)[^)]*\)")
_LEADING = re.compile(r"^(?:\W|_)*(?:(?:step|part)?\s*\d{1,2}\s*[.):]\s*)?(?:\W|_)*")
_NAME = r"[^\n:=|;,.!?()\[\]{}\"「」『』。；，、？！→]{1,64}"
# names end in a colon, an equals sign or a spaced dash; `(...)` may follow the name
_FIELD = re.compile(
    rf"(?:^|(?<=[\n;,|.!?。；，、/\t])|(?<=\s\()|(?<=  )"
    r"|(?<=[ )])(?=(?:final )?(?:answer|output|response):))[ \t]*(?P<open>[【\[〔(]?)"
    rf"(?P<name>{_NAME}(?:\([^()\n]{{1,40}}\))?)[】\]〕)]?[ \t]*"
    r"(?P<sep>:|=>?|\||->|→|\t|(?<=[】\]〕])|[ \t][-–—][ \t])(?!//)",
    re.MULTILINE,
)
# where a text turns from something else to the person or to its conclusion:
# `Scene: happy. The man is sad.`, `Voice: calm. So, sad.`
_TURN_TO_PERSON = re.compile(
    rf"\?|[.!](?=[ \t]+(?:(?:(?:the|this|a|an) )?(?:{PERSON_NOUN}|{EMOTION_NOUN})(?!\w)"
    rf"(?!['’]s? )|{CONCLUSION.pattern}))|。(?={CONCLUSION.pattern})"
)
_HEADING = re.compile(rf"^[ \t]*[【\[]?(?P<name>{_NAME})[】\]]?[ \t]*:?[ \t]*$")
_BULLET = re.compile(r"^[ \t]*(?:[-*•·–+]|\d{1,2}[.)])[ \t]+")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Field:
    """A named part of an answer.

    Attributes:
      start: where its name begins.
      end: where its value ends.
      name: in lower case.
      rank: ASIDE, PROSE, WEAK, LABEL, ANSWER or FINAL.
      value: its text.
    """

    start: int
    end: int
    name: str
    rank: int
    value: str


def field_rank(name: str, kind: str) -> int | None:
    """What a field of this name holds; None for a name that is not known as that of a field.

    Args:
      name: such as `Final answer`, `predicted_emotion` or `情绪`.
      kind: what the label space is: `emotion`, `sentiment` or `intent`.
    """
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    name = _ONE_WORD.sub(" ", _LEADING.sub("", re.sub(r"[_\-*`\"']+", " ", name))).lower().strip()
    if not name or len(name.split()) > 9:
        return None
    denied = bool(_DENIED.search(re.sub(r"\(.*", "", name))) and " but " not in name
    if CHOICE.search(name):  # `I go with the voice: sad`
        return ASIDE if denied else ANSWER
    nouns = {"emotion": _EMOTION_NOUN, "sentiment": _SENTIMENT_NOUN, "intent": _INTENT_NOUN}
    own = nouns.pop(kind)
    answers = bool(_ANSWER_NOUN.search(name))
    final = bool(_FINAL.search(name))
    # `sentimiento` and French `sentiment` are feelings, `情感倾向` is not
    named = bool(own.search(name)) and not (
        kind == "emotion" and _SENTIMENT_NOUN.search(name) and "emotion" not in name
    )
    if denied and (named or answers or _NOT_SHOWN.fullmatch(name)):
        return ASIDE
    aside = _ASIDE.search(name)
    if aside and not (final and answers):
        return ASIDE if (named or answers or len(name.split()) <= 4) else None
    if _PROSE.search(name) and not (final and (answers or named)):
        return PROSE
    if named:
        return FINAL if final else LABEL
    if any(other.search(name) for other in nouns.values()):
        return ASIDE
    if answers:
        return FINAL if final else ANSWER
    if kind == "emotion" and _WEAK.search(name):
        return WEAK
    return FINAL if final and len(name.split()) == 1 else None


def find_fields(text: str, kind: str) -> list[Field]:
    """The fields of a text, in their order.

    A value ends with its line, or where the next field of the line begins. A name without a value
    on its line has the lines below, up to the next field.

    Args:
      text: the answer, in lower case.
      kind: what the label space is: `emotion`, `sentiment` or `intent`.
    """
    starts = []
    for match in _FIELD.finditer(text):
        name = match.group("name").strip()
        rank = field_rank(name, kind)
        dash = match.group("sep").strip() in ("-", "–", "—")
        if rank is not None and not (dash and (rank < LABEL or len(name.split()) > 4)):
            starts.append((match.start("name"), match.end(), name, rank))
    at = 0
    for line in text.split("\n"):
        heading = _HEADING.match(line)
        if heading and not any(a <= at + heading.start("name") < b for a, b, *_ in starts):
            rank = field_rank(heading.group("name"), kind)
            if (
                rank is not None
                and line.strip()
                and len(line.split()) <= 5
                and at + len(line) < len(text)
            ):
                starts.append((at, at + len(line), heading.group("name").strip(), rank))
        at += len(line) + 1
    if any("情绪" in name for _, _, name, _ in starts):  # beside it, 情感 is the sentiment
        starts = [(a, b, n, ASIDE if n.startswith("情感") else r) for a, b, n, r in starts]
    return list(_with_values(text, sorted(starts)))


def _with_values(text: str, starts: list[tuple[int, int, str, int]]) -> Iterator[Field]:
    for number, (start, begin, name, rank) in enumerate(starts):
        limit = starts[number + 1][0] if number + 1 < len(starts) else len(text)
        end = text.find("\n", begin, limit)
        end = limit if end < 0 else end
        if rank == ASIDE and (turn := _TURN_TO_PERSON.search(text, begin, end)):
            end = turn.end()
        value = text[begin:end].strip(" \t,;|(")
        if not re.search(r"\w", value):
            below = text[end:limit].strip("\n").split("\n")
            bullets = [line for line in below if _BULLET.match(line)]
            if below and _BULLET.match(below[0]):
                value = ", ".join(_BULLET.sub("", line) for line in bullets)
                end = limit
            else:
                first = next((line for line in below if line.strip()), "")
                value = first.strip()
                end = text.find(first, end, limit) + len(first) if first else end
        yield Field(start=start, end=end, name=name.lower(), rank=rank, value=value)
