"""Emotion words of further languages by the families of the lexicon; `_` is a blank.

A word that ends in `*` is a stem. The choice of words is ours; words that mean something else in
another of these languages are left out (French `content`, Dutch `boos`).
"""

from __future__ import annotations

from collections.abc import Iterator

_WORDS = {
    "joy": (
        "高兴 高興 开心 開心 快乐 快樂 喜悦 喜悅 愉快 愉悦 愉悅 幸福 欢喜 歡喜 欣喜 喜び 喜ん 嬉し "
        "うれし 幸せ 楽し ハッピー 행복 기쁨 기쁜 기뻐 기쁘 즐거 즐겁 즐기 freude freudig* "
        "fröhlich* froehlich* froh frohe* glücklich* gluecklich* erfreut* heiter* feliz* felices "
        "felicidad* alegr* contento contenta contentos contentas heureux heureuse* joyeux joyeuse* "
        "joie bonheur contente contents contentes ravi ravie felice felici felicità gioia gioios* "
        "allegr* радост* счаст* весел* довол* рад рада blij blije vrolijk* gelukkig* mutlu* "
        "sevinç* szczęśliw* radosn* radość سعيد سعيدة سعادة فرح खुश खुशी प्रसन्न vui_vẻ vui "
        "hạnh_phúc senang bahagia gembira"
    ),
    "sadness": (
        "悲伤 悲傷 难过 難過 伤心 傷心 悲哀 忧伤 憂傷 哀伤 哀傷 沮丧 沮喪 忧郁 憂鬱 悲痛 不开心 "
        "不開心 失落 低落 悲し かなし 哀し 悲嘆 悲愴 落ち込 슬픔 슬픈 슬퍼 슬프 슬픕 우울 traurig* "
        "trauer betrübt* niedergeschlagen* bedrückt* triste tristes tristeza* tristesse afligid* "
        "deprimid* tristi tristezza peiné* грус* печал* расстро* тоск* verdrietig* droevig* "
        "verdriet üzgün* üzüntü* hüzün* hüzünlü smutn* smutek حزين حزينة حزن दुखी दुख उदास उदासी "
        "buồn buồn_bã sedih"
    ),
    "anger": (
        "愤怒 憤怒 生气 生氣 气愤 氣憤 恼怒 惱怒 恼火 惱火 发怒 發怒 愤慨 憤慨 怒り 怒っ 怒る 怒れ "
        "怒気 憤り 腹を立て 腹立 분노 화난 화가_나 화가_난 화가_났 화나 화났 화남 성난 wut wütend* "
        "wuetend* zorn zornig* ärger ärgerlich* verärger* sauer aufgebracht* enojad* enojo "
        "enfadad* enfado ira rabia furios* colère fâché* énervé* furieux furieuse* arrabbiat* "
        "rabbia adirat* raiva zangad* irritad* гнев* злой злая злые злость злит* сердит* рассерж* "
        "ярост* разозл* boze woede kwaad kızgın* öfke* sinirli* gniew* złość zły zła غاضب غاضبة "
        "غضب गुस्सा गुस्से क्रोध क्रोधित नाराज tức_giận giận_dữ marah"
    ),
    "annoyance": (
        "烦躁 煩躁 不耐烦 不耐煩 恼人 苛立 イライラ 짜증 genervt* gereizt* molesto molesta irrité* "
        "agacé* infastidit* раздраж*"
    ),
    "fear": (
        "恐惧 恐懼 害怕 恐慌 惊恐 驚恐 惧怕 恐怖 恐れ 怖が 怖い 怯え 두려 두렵 공포 무서 무섭 겁먹 "
        "겁에 angst ängstlich* aengstlich* furcht furchtsam* verängstigt* miedo* asustad* temor "
        "temeros* peur effrayé* apeuré* craintif* paura spaventat* impaurit* medo assustad* страх* "
        "испуг* испуган* боит* боязн* korku* korkmuş* strach przestraszon* خائف خائفة خوف डर डरा "
        "डरी भय sợ_hãi sợ takut"
    ),
    "worry": (
        "担心 擔心 担忧 擔憂 焦虑 焦慮 忧虑 憂慮 不安 紧张 緊張 着急 焦急 心配 懸念 걱정 불안 염려 "
        "초조 besorgt* sorge sorgen besorgnis beunruhigt* nervös* preocupad* preocupación "
        "preocupação ansios* ansiedad ansiedade nervios* inquiet inquiète* inquiétude anxieux "
        "anxieuse* soucieux soucieuse* préoccupé* preoccupat* preoccupazione ansia nervos* "
        "беспоко* тревог* тревож* обеспоко* взволнован* bezorgd* ongerust* endişe* kaygı* "
        "zmartwion* zaniepokojon* قلق قلقة चिंतित चिंता lo_lắng khawatir cemas"
    ),
    "surprise": (
        "惊讶 驚訝 吃惊 吃驚 惊奇 驚奇 惊喜 驚喜 诧异 詫異 震惊 震驚 驚き 驚い 驚く 驚愕 びっくり "
        "놀람 놀란 놀라 놀랐 놀랍 überrasch* ueberrasch* erstaun* verblüfft* verwundert* sorpres* "
        "sorprend* asombr* surpris surprise* étonné* étonnement stupéfait* stupit* stupore "
        "surpres* surpreend* удив* изумл* verrast* verbaasd* şaşkın* şaşır* zaskoczon* zdziwion* "
        "متفاجئ متفاجئة مندهش مندهشة دهشة مفاجأة आश्चर्य हैरान ngạc_nhiên terkejut"
    ),
    "disgust": (
        "厌恶 厭惡 恶心 噁心 反感 嫌恶 嫌悪 혐오 역겨 ekel angeekelt* angewidert* abscheu asco "
        "asquead* repugnan* dégoût dégoûté* disgusto disgustat* schifo nojo отвращ* walging "
        "iğrenme* اشمئزاز घृणा ghê_tởm jijik"
    ),
    "contempt": (
        "轻蔑 輕蔑 蔑视 蔑視 鄙视 鄙視 不屑 軽蔑 경멸 verachtung verächtlich* desprecio desprezo "
        "mépris méprisant* disprezzo презр*"
    ),
    "excitement": (
        "兴奋 興奮 激动 激動 흥분 aufgeregt* begeister* emocionad* entusiasmad* enthousias* "
        "entusiast*"
    ),
    "frustration": "挫败 挫敗 挫折 좌절 frustriert* frustrad* frustré* frustrat*",
    "disappointment": (
        "失望 がっかり 실망 enttäusch* decepcionad* decepción déçu* déception delus* разочаров*"
    ),
    "helplessness": "无助 無助 无奈 無奈 무력 hilflos* impotent*",
    "confusion": "困惑 疑惑 迷茫 戸惑 혼란 당황 verwirr* confundid* perplex*",
    "disbelief": "怀疑 懷疑 疑い 의심 zweifel* duda dudos* doute dubbio dúvida сомнен*",
    "embarrassment": "尴尬 尷尬 恥ずかし 당혹 verlegen* avergonzad* embarrassé* imbarazz*",
    "shyness": "害羞 羞涩 수줍 schüchtern* tímid*",
    "sarcasm": "讽刺 諷刺 嘲讽 皮肉 비꼬 sarkas* sarcás* sarcast*",
    "boredom": "无聊 無聊 退屈 지루 gelangweilt* aburrid* ennuyé* annoiat*",
    "neutral": (
        "中性 中立 平静 平靜 平淡 无情绪 無情緒 无表情 無表情 ニュートラル 중립 무표정 무감정 평온 "
        "neutral neutrality emotionless expressionless unemotional impassive deadpan neutr* "
        "ausdruckslos* emotionslos* нейтрал* nötr محايد محايدة तटस्थ trung_tính netral "
        "no_emotion no_emotions no_clear_emotion no_strong_emotion no_particular_emotion "
        "no_obvious_emotion no_specific_emotion no_discernible_emotion no_visible_emotion "
        "no_strong_emotions no_clear_emotions without_emotion"
    ),
    "positive": (
        "积极 積極 正面 正向 ポジティブ 肯定的 긍정 positiv* позитив* إيجابي सकारात्मक tích_cực "
        "olumlu"
    ),
    "negative": (
        "消极 消極 负面 負面 负向 ネガティブ 否定的 부정적 negativ* négatif négative* негатив* "
        "سلبي नकारात्मक tiêu_cực olumsuz"
    ),
}
# English words of a family that the lexicon of the wheels does without.
_ENGLISH = {
    "joy": "gleeful glee jolly beaming",
    "sadness": "teary weepy forlorn glum woeful doleful",
    "anger": "angriness incensed pissed",
    "annoyance": "irked aggravated",
    "fear": "fright petrified fearfulness",
    "surprise": "astounded flabbergasted dumbfounded astonishedly bewilderedly",
    "worry": "worriedness fretful",
    "disgust": "grossed",
}


def foreign_words() -> Iterator[tuple[str, str]]:
    """Yields (word or stem with `*`, family)."""
    for table in (_WORDS, _ENGLISH):
        for family, words in table.items():
            for word in words.split():
                yield word.replace("_", " "), family
