"""Emojax's own emotion lexicon: word families, and their clusters in five emotion models.

Used where the official tables of MER-UniBench are absent, and to find labels in answers and in the
replies of annotators (`data_pipeline/answers`). The choice of words is ours. The models are Ekman's
six basic emotions, Plutchik's eight primaries, Parrott's six primary emotions, the quadrants of
Russell's circumplex and families of Scherer's Geneva wheel. A model omits families that it has no
cluster for; all omit neutral.
"""

from __future__ import annotations

_FAMILIES = {
    "anger": (
        "angry angrily angered angering angrier rage raging enraged fury furious furiously mad "
        "outraged outrage irate wrath wrathful infuriated livid seething hostile hostility "
        "aggressive aggression aggressively heated resentful resentment"
    ),
    "annoyance": (
        "annoyed annoying annoy irritated irritation irritable irritably irritating bothered "
        "impatient impatience impatiently exasperated exasperation displeased displeasure peeved "
        "grumpy cross complain complaining complaint"
    ),
    "frustration": "frustrated frustrating frustrate thwarted fed-up",
    "accusation": (
        "accuse accusing accused accusatory blame blaming reproach reproachful reproachfully "
        "indignant indignation condemn condemning critical criticism criticising criticizing "
        "disapprove disapproving disapproval protest"
    ),
    "contempt": (
        "contemptuous contemptuously scorn scornful scornfully disdain disdainful despise "
        "despising sneering sneer mocking mockery mock ridicule condescending dismissive"
    ),
    "sarcasm": "sarcastic sarcastically ironic ironical irony cynical cynicism teasing",
    "disgust": (
        "disgusted disgusting repulsed repulsion revulsion revolted repelled nauseated loathing "
        "loathe abhorrence aversion averse distaste distasteful sickened"
    ),
    "jealousy": "jealous jealously envy envious enviously",
    "sadness": (
        "sad sadly sadder saddened sorrow sorrowful sorrowfully unhappy unhappiness unhappily "
        "grief grieving grieved mournful mourning melancholy melancholic gloomy gloom depressed "
        "depression depressing dejected despondent downcast miserable misery heartbroken tearful "
        "crying upset blue low dismal wistful"
    ),
    "disappointment": (
        "disappointed disappointing disappoint let-down dissatisfied dissatisfaction discontent "
        "discontented disheartened discouraged disillusioned regret regretful regretting"
    ),
    "hurt": (
        "hurtful pained pain painful wounded suffering anguish anguished agony tormented "
        "aggrieved grievance wronged"
    ),
    "loneliness": "lonely lonesome alone isolated abandoned rejected",
    "helplessness": (
        "helpless helplessly powerless hopeless hopelessness desperate desperation despair "
        "despairing resigned resignation overwhelmed"
    ),
    "guilt": "guilty guiltily remorse remorseful apologetic apology sorry ashamed shame shameful",
    "embarrassment": (
        "embarrassed embarrassing awkward awkwardness humiliated humiliation mortified"
    ),
    "shyness": "shy shyly bashful timid timidity timidly coy",
    "sympathy": (
        "sympathetic pity pitying compassion compassionate empathy empathetic consoling comforting"
    ),
    "boredom": "bored boring apathy apathetic indifferent indifference uninterested disinterested",
    "tiredness": "tired tiredly exhausted exhaustion weary weariness fatigue fatigued sleepy",
    "fear": (
        "afraid fearful fearfully feared fearing scared scary frightened fright frightening "
        "terrified terror terrifying horror horrified horrifying panic panicked panicky dread "
        "dreading alarmed alarm intimidated threatened"
    ),
    "worry": (
        "worried worrying worries worriedly anxious anxiety anxiously nervous nervously "
        "nervousness concern concerned concerns uneasy uneasiness unease apprehensive "
        "apprehension apprehensively tense tension stressed stress distress distressed troubled "
        "disturbed insecure insecurity agitated restless"
    ),
    "surprise": (
        "surprised surprising surprisingly surprisedly astonished astonishment astonishing amazed "
        "amazement amazing shocked shock shocking startled stunned speechless taken-aback wonder "
        "incredulous unexpected"
    ),
    "disbelief": (
        "disbelieving unbelieving sceptical skeptical scepticism skepticism suspicious suspicion "
        "suspiciously distrust distrustful mistrust doubt doubtful doubting doubtfully"
    ),
    "confusion": (
        "confused confusing confuse puzzled puzzlement perplexed bewildered bewilderment baffled "
        "uncertain uncertainty unsure hesitant hesitation hesitating conflicted"
    ),
    "curiosity": (
        "curious curiously interested interest inquisitive intrigued fascinated fascination "
        "attentive questioning wondering"
    ),
    "anticipation": (
        "anticipating expectant expecting expectation expectations eager eagerly eagerness "
        "looking-forward yearning longing"
    ),
    "joy": (
        "joyful joyfully joyous happy happily happier happiness glad gladly gladness delighted "
        "delight delightful delightedly cheerful cheerfully cheerfulness cheery merry pleased "
        "pleasure pleasant pleasantly elated elation ecstatic ecstasy jubilant blissful bliss "
        "smiling laughing enjoyment enjoying enjoy overjoyed positive"
    ),
    "amusement": "amused amusing amuse playful playfully humorous humor humour funny joking",
    "excitement": (
        "excited excitedly exciting thrilled thrill enthusiastic enthusiasm enthusiastically "
        "energetic exhilarated passionate passion lively"
    ),
    "contentment": "content contented satisfied satisfaction satisfying fulfilled comfortable",
    "relief": "relieved relieving reassured",
    "calm": (
        "calmly calmness relaxed relaxing relaxation peaceful peace peacefully serene serenity "
        "tranquil composed at-ease gentle soothing"
    ),
    "pride": "proud proudly triumphant triumph smug complacent",
    "confidence": (
        "confident confidently self-assured assured certain determined determination firm "
        "resolute assertive bold brave courage courageous"
    ),
    "hope": "hopeful hopefully optimistic optimism encouraged encouraging inspired",
    "trust": (
        "trusting trustful accepting acceptance agreeing agreement approving approval faithful "
        "sincere sincerity"
    ),
    "love": (
        "loving loved lovingly affection affectionate affectionately fond fondness tender "
        "tenderness caring care adoring adoration warm warmth intimate kind kindness friendly "
        "friendliness"
    ),
    "gratitude": (
        "grateful gratefully thankful thankfulness thanks appreciative appreciation moved touched"
    ),
    "admiration": "admiring admire admired awe awed respect respectful impressed praise praising",
    "nostalgia": "nostalgic reminiscing homesick",
}
FAMILIES: dict[str, tuple[str, ...]] = {
    family: tuple(w.replace("-", " ") for w in forms.split()) for family, forms in _FAMILIES.items()
}


def _wheel(**clusters: str) -> dict[str, str]:
    return {family: name for name, families in clusters.items() for family in families.split()}


_ANGRY = "anger annoyance frustration accusation"
_LOW = "sadness disappointment hurt loneliness helplessness guilt"
WHEELS: tuple[dict[str, str], ...] = (
    # Ekman
    _wheel(
        anger=f"{_ANGRY} jealousy",
        disgust="disgust contempt",
        sadness=_LOW,
        fear="fear worry",
        surprise="surprise disbelief",
        happiness=(
            "joy amusement excitement contentment relief pride hope love gratitude admiration"
        ),
    ),
    # Plutchik
    _wheel(
        anger=_ANGRY,
        disgust="disgust contempt boredom",
        sadness=f"{_LOW} nostalgia",
        fear="fear worry shyness",
        surprise="surprise disbelief confusion",
        anticipation="anticipation curiosity hope",
        joy="joy amusement excitement contentment relief calm pride",
        trust="trust love gratitude admiration confidence",
    ),
    # Parrott: disgust, contempt and envy are kinds of anger, shame and sympathy of sadness, worry
    # of fear
    _wheel(
        anger=f"{_ANGRY} disgust contempt jealousy",
        sadness=f"{_LOW} embarrassment sympathy",
        fear="fear worry",
        surprise="surprise",
        joy="joy amusement excitement contentment relief pride hope",
        love="love gratitude nostalgia",
    ),
    # Russell's quadrants, by activation and pleasure
    _wheel(
        tense=f"{_ANGRY} contempt disgust jealousy fear worry embarrassment",
        down=f"{_LOW} boredom tiredness",
        lively="joy amusement excitement pride anticipation surprise admiration",
        serene="contentment relief calm trust love gratitude hope confidence",
    ),
    # Scherer's Geneva wheel: families by control and pleasure
    _wheel(
        anger=_ANGRY,
        contempt="contempt sarcasm",
        disgust="disgust",
        envy="jealousy",
        sadness="sadness loneliness hurt",
        disappointment="disappointment helplessness",
        guilt="guilt",
        shame="embarrassment shyness",
        fear="fear worry",
        surprise="surprise",
        compassion="sympathy",
        interest="curiosity anticipation hope",
        amusement="amusement",
        joy="joy excitement",
        pride="pride confidence",
        pleasure="contentment calm",
        relief="relief",
        love="love trust",
        admiration="admiration gratitude",
        longing="nostalgia",
    ),
)
