"""The prompts of the LLM judges. They are our own; results name their hashes."""

from __future__ import annotations

SYSTEM_PROMPT = (
    "You compare two descriptions of the emotion that a person shows in a video clip. You are "
    "strict, fair and brief. You answer in English with one JSON object and nothing else."
)
CLUE_PROMPT = """Reference description:
{reference}

Description to judge:
{response}

First list the clues about emotion in each (facial expression, gesture, tone of voice, what is \
said, situation). Then say how far the
clues of the second agree with those of the reference: 1 = nothing in common or contradictory, 10 \
= the same clues. Extra clues that
do not contradict the reference cost little, contradictory ones much.
Answer: {{"reference_clues": [...], "response_clues": [...], "score": <integer 1 to 10>}}"""
LABELS_PROMPT = """Description:
{text}

Which words of emotion sum up what the person shows, by this description? At most eight, each one \
word, none that it denies.
Answer: {{"labels": [...]}}"""
LABEL_PROMPT = """Words of emotion of the reference: {reference}
Words of emotion to judge: {response}

How far do the two sets agree in meaning: 1 = nothing in common or contradictory, 10 = the same \
emotions?
Answer: {{"score": <integer 1 to 10>}}"""
GROUP_PROMPT = """Words of emotion: {words}

Put words that mean the same emotion, or forms of one word, into groups. Every word stands in \
exactly one group, spelled as above.
Answer: {{"groups": [[...], [...]]}}"""
REASONING_PROMPT = """Reference description:
{reference}

Description to judge:
{response}

Score three things from 0 (worst) to 10 (best):
clue: do its clues agree with those of the reference, without contradictions?
label: does it come to the same emotion?
completeness: does it lead from clues of picture, voice and words to the emotion without gaps?
Answer: {{"clue": <integer>, "label": <integer>, "completeness": <integer>}}"""
# task -> its prompts
TASKS: dict[str, tuple[str, ...]] = {
    "clue-overlap": (CLUE_PROMPT,),
    "label-overlap": (LABELS_PROMPT, LABEL_PROMPT),
    "ov": (LABELS_PROMPT, GROUP_PROMPT),
    "reasoning": (REASONING_PROMPT,),
}
