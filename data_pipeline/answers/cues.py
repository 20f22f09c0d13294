"""Words around an emotion word that say how it is meant, in the languages that models answer in."""

from __future__ import annotations

import re
from collections.abc import Sequence


def _any(alternatives: Sequence[str]) -> str:
    return "(?:" + "|".join(alternatives) + ")"


def whole_words(lines: Sequence[str]) -> str:
    """A pattern of one of several words, separated by blanks; `_` is a blank within a word."""
    words = [word.replace("_", " ") for line in lines for word in line.split()]
    return rf"(?<!\w){_any(words)}(?!\w)"


# Courtesies and set phrases: they are blanked before anything is read.
IDIOMS = re.compile(
    _any(
        [
            r"(?:\b(?:i|we)(?:'m|'d be|'ll be| am| are| would be| will be)\s+(?:\w+\s+){0,2}|^\W*|"
            r"[.!?]\s+)(?:happy|glad|pleased|delighted|excited|thrilled) to\b",
            r"\bi(?:'m| am) (?:so |very |really )?(?:sorry|afraid|happy(?!\W*$)|glad|confident|"
            r"certain|sure|uncertain|unsure|hesitant|curious)\b",
            r"\b(?:i(?:'m| am)|we(?:'re| are)) (?:\w+ )?(?:sad|saddened|sorry|surprised|amused|"
            r"ashamed|proud|honou?red|afraid) (?:to (?:say|report|see|tell|inform|note|admit|hear|"
            r"announce|share|learn|find)|that you)\b",
            r"(?:^|[.!?\n])\W*sad to (?:say|report|tell)\b|\bto my \w+,",
            r"\bhave an? (?:\w+ ){1,2}(?:day|time|week|weekend|evening)\b",
            r"\bhope (?:that )?you(?:'re| are|'ll be| will be) \w+",
            r"\bi (?:hope|trust|appreciate|regret|doubt)\b",
            r"\b(?:feel free|thank you|thanks for|great question|hope (?:this|that) helps)\b",
            r"(?:^|[.!?\n])\W*(?:surprisingly|not surprisingly|sadly|happily|hopefully|regrettably|"
            r"unfortunately|interestingly|amazingly|thankfully|gladly|sorry|certainly|"
            r"absolutely)\s*,",
            r"\b(?:without (?:a |any )?doubt|beyond (?:any )?doubt|no doubt|undoubtedly|no wonder|"
            r"happy birthday|happy new year|happy ending|happy hour|to be positive|positively|for "
            r"sure)\b",
            r"很(?:高兴|开心|乐意|荣幸)(?:能|能够|可以)?(?:为|帮|回答|协助|见到您|认识)[^,。!\n]*",
            r"喜んで(?:お|ご|回答|対応|協力)[^、。!\n]*|お手伝いできて(?:嬉し|うれし)[^、。!\n]*",
            r"\b(?:es freut mich|freue mich|ich helfe gerne?|mit freude|gern geschehen)\b",
            r"\b(?:con (?:mucho )?gusto|(?:encantad[oa]|feliz|contento) de (?:ayudar|poder)\w*)",
            r"\b(?:(?:ravie?|heureux|heureuse|content) de (?:vous|t'|pouvoir) ?\w*|avec plaisir)",
            r"\b(?:felice di (?:aiutar|esser)\w*|feliz em (?:ajudar|poder)|рад помочь)",
        ]
    ),
    re.MULTILINE,
)
REFUSAL = re.compile(
    r"\b(?:i(?:'m| am) (?:unable|not able)|i (?:can(?:'|no)t|could not|couldn't|won't)|as an ai|"
    r"cannot (?:determine|assist|identify|provide|tell|say|be determined)|can't (?:determine|"
    r"identify|tell|say)|(?:hard|difficult|impossible) to (?:tell|say|determine|judge|know)|"
    r"not (?:possible|clear|able) to (?:determine|tell|identify)|insufficient|"
    r"unable to (?:determine|identify|assist|provide|tell))\b|无法(?:判断|确定|识别)|不能(?:判断|"
    r"确定)|難しい|判断できません|わかりません|판단할 수 없|알 수 없|"
    r"\b(?:kann (?:ich )?nicht (?:bestimmen|erkennen|sagen)|no puedo|no se puede|je ne peux pas|"
    r"impossible de|non posso|não posso|не могу)\b"
)
CONTRAST = re.compile(
    whole_words(
        [
            "but however yet nevertheless nonetheless still instead aber jedoch sondern doch pero "
            "sino",
            "mais cependant pourtant ma però bensì mas porém но а однако maar ama fakat nhưng tapi",
        ]
    )
    + "|但是|但|却|而是|反而|不过|不過|只是|しかし|ですが|けれど|むしろ|하지만|그러나|오히려|لكن|"
    "बल्कि|लेकिन"
)
# the `no` of `no, sad` answers a question and does not deny what follows
INTERJECTION = re.compile(
    r"(?<!\w)(?:no|nope|nah|nein|non|não|нет|nee|いいえ|아니요?|不|不是)\s*[,!.–—-]"
)
# `not only sad but angry` denies nothing: the answer goes on to a stronger emotion
NOT_ONLY = re.compile(
    r"\b(?:not|\w+n't) (?:only|just|merely|simply|solely|mere)\b|"
    r"\bmore than (?:just|only|merely|simply)\b|\b(?:nicht (?:nur|bloß|allein)|"
    r"no (?:solo|sólo|solamente|únicamente)|(?:non|pas) (?:seulement|juste|uniquement)|non (?:solo|"
    r"soltanto)|não (?:só|somente|apenas)|не (?:только|просто)|niet (?:alleen|slechts))(?!\w)|"
    r"不(?:仅仅?|只|单|單|光|僅)是?"
)
NOT_ONLY_AFTER = re.compile(
    r"^[^、。,]{0,6}?(?:(?:だけ|ばかり)で(?:は|も)?な|뿐(?:만)? ?아니라|(?:에|데) 그치지 않)"
)
_CONCESSION = whole_words([
    "although though while despite whereas albeit regardless_of notwithstanding in_spite_of",
    "obwohl trotz während auch_wenn aunque a_pesar mientras bien_que malgré quoique alors_que "
    "tandis_que",
    "même_si anche_se nonostante sebbene mentre embora apesar enquanto ainda_que хотя несмотря "
    "hoewel ondanks",
]) + "|虽然|雖然|尽管|儘管|即使|虽说"  # fmt: skip
# to the next comma where the sentence opens with it, else to its end
CONCESSION = re.compile(rf"(?:{_CONCESSION})(?![^,]*,)[^,;]*$")
CONCESSION_AFTER = re.compile(
    r"^[^、。,\s]{0,14}(?:(?<=[いだるたすん])が[、,]|けれど|けど|ものの|にもかかわらず|一方で|"
    r"のに[、,]|지만|는데|ㄴ데|에도 불구)"
)
TEMPORAL = re.compile(
    whole_words(
        [
            "at_first initially originally formerly previously earlier in_the_beginning "
            "at_the_beginning",
            "at_the_start to_begin_with beginning used_to_be start(?:s|ed|ing)? beg(?:ins|an|"
            "inning) zunächst",
            "anfangs anfänglich zuerst al_principio inicialmente primero d'abord au_début "
            "initialement",
            "inizialmente all'inizio no_início no_começo сначала вначале поначалу aanvankelijk",
            "was_previously briefly momentarily first_considered first_thought at_first_glance "
            "at_first_sight on_the_surface",
        ]
    )
    + "|一开始|起初|最初|开始时|刚开始|開始時|先是|初め|はじめ|처음"
)
LATER = re.compile(
    whole_words(
        [
            "then later afterwards? eventually finally until before but becomes? became turns? "
            "ends? now",
            "dann später schließlich luego después finalmente puis ensuite finalement poi infine "
            "depois",
            "затем потом",
        ]
    )
    + "|后来|然后|随后|之后|转为|变得|その後|やがて|次第に|나중|이후"
)
_REASON = whole_words([
    "because since due_to owing_to thanks_to given based_on considering judging in_response_to",
    "react(?:s|ing)?_to about weil denn wegen aufgrund da porque ya_que debido_a parce_que car "
    "puisque",
    "en_raison_de perché poiché siccome потому_что так_как из-за omdat pois",
    "as_(?:the|he|she|they|his|her|their|there|it|indicated|evidenced|shown|seen|reflected|"
    "suggested)",
]) + "|因为|由于|因為|由於"  # fmt: skip
REASON = re.compile(rf"(?:{_REASON})[^,;而]*$")
REASON_AFTER = re.compile(r"^[^、。,]{0,14}(?:ので|から|ため)[、,]|^[^,.]{0,8}(?:때문)")
HEDGE = re.compile(
    whole_words(
        [
            "may might could possibly perhaps maybe potentially vielleicht möglicherweise könnte "
            "quizás?",
            "tal_vez podría posiblemente peut-être pourrait possiblement forse potrebbe talvez "
            "poderia",
            "возможно может misschien belki",
        ]
    )
    + r"[^,;]{0,40}$|(?:可能|或许|也许|또는|아마)[^,;。]{0,12}$"
)
SAID = re.compile(
    r"\b(?:says|said|saying|claims?|claimed|claiming|pretend(?:s|ing)?|fak(?:es|ing)|feign(?:s|"
    r"ing)?|insists?|sings?|singing|reads?|talks? about|would expect|might expect|might think|"
    r"would think|would assume|(?:was|am) going to say|would have said|tempted to say|behauptet|"
    r"sagt|dice|dit)\b[^,;]*$|说[^,。]*$|と言[^、。]*$"
)
CONDITION = re.compile(
    r"(?<!as )\b(?:if|unless|whether)\s+(?:he|she|they|it|the|this|someone|a|an|happy|sad|"
    r"angry)\b[^,;]*$"
)
MINOR = re.compile(
    _any(
        [
            r"\bwhat (?:looks|seems|sounds|appears) (?:like|to be)\s+(?:\w+\s+){0,2}$",
            r"\b(?:second|third|next|less|least)[- ](?:most[- ])?(?:likely|probable|plausible|"
            r"choice|guess|option|candidate)\b[^,;]*$",
            r"\b(?:hint|touch|trace|tinge|undertone|undercurrent|dash|shade|flicker|glimmer|"
            r"element|note)s? of\s+(?:\w+\s+){0,2}$",
            r"\b(?:slight|slightly|a little|somewhat|a bit|a bit of|mild|mildly|some|underlying|"
            r"secondary|secondarily|subtle|faint|minor)\s+(?:\w+\s+){0,1}$",
            r"\b(?:mixed|tinged|combined|mingled|coupled|tempered|laced|along|together|"
            r"followed) (?:with|by)\s+(?:\w+\s+){0,3}$",
            r"\b(?:etwas|ein wenig|leicht|leichte[rnms]?|einem? hauch|un poco(?: de)?|algo de|"
            r"un peu(?: de)?|légère\w*|un po'(?: di)?|leggera\w*|um pouco(?: de)?|немного|слегка|"
            r"с оттенком)\s+(?:\w+\s+)?$",
            r"(?:略带|带有一丝|一丝|些许|有点|有些|轻微的?|少し|やや|わずか[なに]?|약간의?|"
            r"조금)[^,。]{0,3}$",
        ]
    )
)
MAJOR = re.compile(
    _any(
        [
            whole_words(
                [
                    "mainly mostly primarily predominantly chiefly above_all first_and_foremost "
                    "dominantly primary",
                    "main dominant strongest largely essentially overwhelmingly really actually "
                    "truly in_fact in_reality",
                    "deep_down vor_allem hauptsächlich eigentlich principalmente sobre_todo "
                    "en_realidad surtout",
                    "principalement en_fait en_réalité soprattutto in_realtà na_verdade sobretudo "
                    "преимущественно",
                    "на_самом_деле",
                ]
            )
            + r"[^,;]{0,30}$",
            r"(?:主要|实际上|其实|実際は|実は|主に|主として|주로|사실|실제로)[^,。]{0,10}$",
        ]
    )
)
# the sentence draws a conclusion, or chooses
CONCLUSION = re.compile(
    whole_words(
        [
            "therefore thus hence overall in_conclusion in_summary to_sum_up to_summari[sz]e "
            "conclud(?:e|es|ed|ing)",
            "all_in_all ultimately consequently final in_short to_conclude taken_together "
            "altogether so,",
            "insgesamt daher zusammenfassend also deshalb folglich fazit por_lo_tanto en_resumen "
            "en_conclusión",
            "en_general donc en_résumé ainsi globalement quindi dunque in_sintesi nel_complesso "
            "pertanto portanto",
            "em_resumo no_geral поэтому итак следовательно",
        ]
    )
    + "|таким образом|в целом|因此|所以|综上|總之|总之|总的来说|整体而言|综合来看|最终|したがって|"
    "よって|以上から|総合的に|結論|따라서|종합|결론적으로|전반적으로|그러므로"
)
CHOICE = re.compile(
    _any(
        [
            r"\b(?:i|we)(?:'d| would|'ll| will)? (?:\w+ly )?(?:say|choose|pick|label|classify|"
            r"select|go with|describe|guess|call|answer|lean|think|believe|settle|assign|opt|"
            r"categori[sz]e|infer|interpret)\b",
            r"\b(?:if (?:i )?(?:had|have|forced|must|pressed|were) to|forced to|have to) "
            r"(?:choose|pick|guess|say|select|decide)\b|\bmore likely\b",
            r"\bmy (?:best )?(?:answer|choice|guess|pick|assessment|judg\w+|prediction)\b",
            r"\bbest (?:\w+ )?(?:described|answer|guess|choice|label|option|match|fit|fits|matches|"
            r"characteri[sz]ed|captured|represented|category|summari[sz]ed|classified)\b",
            r"\b(?:classified|labell?ed|categori[sz]ed|identified|recogni[sz]ed|interpreted|"
            r"characteri[sz]ed|described|inferred|determined|considered|regarded) (?:as|to be)\b",
            r"\bmost (?:likely|probabl[ey]|appropriate|suitable|accurate(?:ly)?|fitting|closely|"
            r"plausible)\b",
            r"\b(?:correct|right|final|closest|appropriate) (?:answer|label|choice|option|emotion|"
            r"match)\b",
            r"\blean(?:s|ing)? (?:more )?towards?\b",
            r"\bich würde|\bam (?:ehesten|wahrscheinlichsten)|\b(?:diría|elegiría|creo|"
            r"considero) que|\bdiría\b|\blo más probable|\bje (?:dirais|pense|choisi\w*)|"
            r"\ble plus probable|\bdirei\b|\bsceglierei\b|\beu diria|\bescolheria|\bскорее всего|"
            r"\bя (?:бы|думаю)",
            r"如果(?:必须|一定要|非要)|更(?:可能|像)|我(?:选择|认为|觉得|会选)|最(?:可能|符合|"
            r"贴切|接近|合适)|(?:判断|归类|判定|识别|概括)为|属于|最も(?:近い|適切|可能性)|"
            r"と(?:判断|考え|思)|あえて|가장 (?:적절|가까|가능)|굳이|판단",
        ]
    )
)
EMOTION_NOUN = (
    r"(?:emotions?|emotional state|emotional tone|feelings?|affect|label|answer|emotionen|gefühle?|"
    r"gefühlszustand|emotionale zustand|antwort|emoción|emociones|sentimiento|estado emocional|"
    r"respuesta|émotions?|état émotionnel|sentiment|réponse|emozion[ei]|stato emotivo|risposta|"
    r"emoção|emoções|sentimento|estado emocional|resposta|эмоци\w+|чувств\w+|состояние|ответ|"
    r"emotie|情绪|情緒|情感|感情|心情|答案|标签|気持ち|答え|감정|정답|答え|ラベル|conclusion|"
    r"verdict|category|class)"
)
_RELATIVES = (
    r"(?:wife|husband|mother|father|brother|sister|sons?|daughters?|boyfriend|girlfriend|partner|"
    r"boss|mom|dad|child|children|kids?|parents?|team\w*|opponents?|teacher|neighbou?rs?|dog|"
    r"family)"
)
PERSON_NOUN = (
    r"(?:he|she|they|person|people|individual|man|woman|men|women|boy|girl|child|kid|baby|lady|guy|"
    r"gentleman|speaker|character|subject|protagonist|actor|actress|mother|father|mom|dad|narrator|"
    r"someone|everyone|er|sie|mann|frau|junge|mädchen|kind|sprecher\w*|él|ella|persona|hombre|"
    r"mujer|niñ[oa]|chic[oa]|hablante|personaje|il|elle|personne|homme|femme|garçon|fille|locuteur|"
    r"personnage|lui|lei|uomo|donna|ragazz[oa]|bambin[oa]|pessoa|homem|mulher|menin[oa]|ele|ela|он|"
    r"она|человек|мужчина|женщина|девушка|мальчик|девочка|人物|男子|女子|男人|女人|男性|女性|男士|"
    r"女士|说话者|說話者|角色|主人公|她|他|彼女|彼|話者|この人|사람|화자|그녀|그는|남자|여자|인물|"
    r"남성|여성|you)"
)
OTHER_NOUN = (
    rf"(?:(?:his|her|their)\s+(?:\w+\s+)?{_RELATIVES}|everyone (?:else|around)|"
    r"(?:man|woman|person|people|boy|girl|guy) (?:in the background|behind|next to|beside|"
    r"opposite)|other (?:person|people|man|woman|speaker|character)s?|another (?:person|man|woman)|"
    r"others|friends?|colleagues?|companion|crowd|audience|bystanders?|interlocutor|listener|"
    r"everyone else|people around (?:him|her|them)|(?:background )?music|scene|atmosphere|"
    r"background|setting|weather|lighting|situation|context|story|song|dialogue|words|text|"
    r"subtitles?|lines?|content|voice|tone|expressions?|face|eyes|eyebrows|mouth|smile|gaze|"
    r"posture|body language|gestures?|video|clip|film|musik|szene|stimme|miene|gesicht\w*|ausdruck|"
    r"freund\w*|música|escena|voz|expresión|rostro|cara|tono|amig[oa]s?|musique|scène|voix|visage|"
    r"expression|ton|ami\w*|musica|scena|voce|volto|espressione|amic\w+|cena|expressão|музыка|"
    r"сцена|голос|лицо|выражение|друг\w*|音乐|音樂|场景|場景|背景|氛围|表情|语气|語氣|声音|聲音|"
    r"眼神|台词|歌|朋友|旁人|音楽|場面|声|口調|雰囲気|周り|友人|음악|장면|목소리|표정|분위기|친구)"
)
_VERBS = (
    r"(?:is|are|was|were|be|being|'s|'re|seems?|seemed|appears?|appeared|looks?|looked|looking|"
    r"feels?|felt|feeling|sounds?|sounded|express\w*|shows?|showed|showing|displays?|displaying|"
    r"exhibit\w*|experienc\w+|demonstrat\w+|remains?|becomes?|became|gets?|turns?|has|have|ist|war|"
    r"wirkt|scheint|sieht|fühlt|zeigt|está|estaba|es|parece|siente|muestra|se ve|est|semble|paraît|"
    r"ressent|exprime|a l'air|è|sembra|appare|prova|mostra|é|sente|demonstra|выглядит|кажется|"
    r"чувствует|испытывает|是|为|為|显得|感到|感觉|觉得|表现出?|看起来|看上去|流露出?|体现出?|"
    r"呈现出?|は|が|を|은|는|이|가)"
)
_SIGNS = (
    r"(?:suggest\w*|indicat\w+|convey\w*|reflect\w*|points? to|tells? (?:me|us)|signals?|reveal\w*|"
    r"impl(?:y|ies)|denotes?|deutet auf|deuten auf|indica\w*|sugier\w+|refleja\w*|sugg[eè]r\w+|"
    r"indique\w*|表明|说明|暗示|反映|示し)"
)
_CHANGES = r"(?:turn(?:s|ed)(?: into| to)?|becom\w+|became|grows?|changes? (?:in)?to)"
VERB = re.compile(
    rf"(?<!\w)(?:(?P<sign>{_SIGNS})|(?P<change>{_CHANGES})|{_VERBS})(?!\w)|(?<=he)'s(?= )|"
    rf"(?<=it)'s(?= )|"
    r"(?<=who)'s(?= )|(?<=they)'re(?= )|[は是为為]|(?<=[가-힣])[은는이가](?=\s)"
)
NOUN = re.compile(
    rf"(?<!\w)(?:(?P<other>{OTHER_NOUN})|(?P<emotion>{EMOTION_NOUN})|"
    rf"(?P<person>{PERSON_NOUN}))(?!\w)"
    r"|(?P<other2>音乐|场景|氛围|表情|语气|声音|眼神|朋友|旁人|音楽|場面|口調|雰囲気|友人|声|음악|"
    r"장면|목소리|표정|분위기|친구)|(?P<emotion2>情绪|情緒|情感|感情|心情|気持ち|答案|答え|감정|"
    r"정답)|(?P<person2>人物|男子|女子|男人|女人|男性|女性|说话者|角色|她|他|彼女|彼|話者|人|사람|"
    r"화자|그녀|인물)"
)
POSSESSIVE = re.compile(r"^(?:'s?\b|s'|的|の|의|所)")
# what the adjective describes
_OF_A_CUE = (
    r"(?:voice|tone|music|scene|song|story|words?|news|event|occasion|memor\w+|moment|ending|"
    r"situation|environment|background|atmosphere|setting|lighting|lyrics|content|topic|message|"
    r"film|movie|tears)"
)
_OF_A_FACE = (
    r"(?:expressions?|faces?|demeanou?r|looks?|smiles?|eyes|mood|person|man|woman|manner|way|"
    r"gestures?|posture|body)"
)
CUE_AFTER = re.compile(
    rf"^[\w-]*\s+(?:\w+\s+){{0,2}}?{_OF_A_CUE}\b|^的?(?:音乐|场景|语气|声音|氛围|背景|歌)|"
    rf"^[いなの]?(?:音楽|場面|口調|声)"
)
FACE_AFTER = re.compile(rf"^[\w-]*\s+(?:\w+\s+){{0,1}}?{_OF_A_FACE}\b|^的?(?:表情|样子|神情)")
ECHO_BEFORE = re.compile(
    r"\b(?:among|out of|options?|choices?|choose (?:one )?from|candidates?|categories|labels?|"
    r"including|such as|like|e\.g\.|following|given|from|unter|von|entre|parmi|tra|fra|среди|"
    r"из)\b[^.;!?]{0,60}$|(?:从|在|选项|候选|選択肢|중에서)[^。]{0,20}$"
)
BETWEEN = re.compile(r"\b(?:between|either|torn|zwischen|entweder|entre|soit)\b[^.;!?]{0,30}$")
CLAUSE_START = re.compile(
    rf"[,;:(—、]|\s[-–]\s|{CONTRAST.pattern}|{_CONCESSION}|{_REASON}|\b(?:and|when|who|which|that|"
    rf"that's)\b"
)
CORRECTION = re.compile(
    r"\b(?:wait|correction|actually|on second thought|revised?|re-?evaluat\w+|instead|sorry|"
    r"scratch that)\b"
)
