"""What a caption names: the same thing in two sets of pictures must not cross the split."""

import re
from collections import Counter
from collections.abc import Mapping

from ..base import Groups

# a head that more pictures share than one thing is likely to have says the kind, not the thing
MOST_OF_A_THING = 16
_END = re.compile(
    r"[.,;:!?—–()]|\b(?:with|without|in|on|at|from|for|by|to|and|or|is|are|that|which|who|used|"
    r"showing|tilted|pointing)\b"
)
_MEASURE = re.compile(
    r"^(?:\w+ )*?(?:pair|bunch|cluster|head|string|ear|cup|glass|couple|tube) of "
)
_PARTS = ("face", "slice", "core", "bulb", "root", "fruit")  # "dog face" is a dog
_DETERMINER = re.compile(r"^(?:an?|the|some|two|our|your|eat your|another|say)\b ?")


def phrase(caption: str) -> str:
    """Return the words that name the thing: "A red apple, with a leaf." -> "red apple"."""
    text = re.sub(r"[“”\"']", "", caption.lower()).strip()
    whole = " ".join(re.findall(r"\w[\w-]*", text))
    text = _DETERMINER.sub("", _MEASURE.sub("", _DETERMINER.sub("", text))).strip()
    text = (_END.split(text)[0].strip() or text).split(" of ")[0]
    words = re.findall(r"\w[\w-]*", text)
    if len(words) > 1 and words[-1] in _PARTS:
        words.pop()
    return " ".join([*words[:-1], _singular(words[-1])]) if words else whole


def head(caption: str) -> str:
    """Return the noun: "A red apple." -> "apple"."""
    return phrase(caption).rpartition(" ")[2]


def _singular(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if re.search(r"(?:s|x|z|ch|sh|o)es$", word):
        return word[:-2]
    return word[:-1] if re.search(r"[^su]s$", word) and len(word) > 3 else word


def join_concepts(captions: Mapping[str, str], groups: Groups) -> None:
    """Join pictures whose captions name the same thing.

    Pictures of one phrase are joined, and pictures of one head noun, unless it is shared by more
    than MOST_OF_A_THING of them: "play button" and "stop button" are no one thing.

    Args:
        captions: name of a picture -> its caption.
        groups: of these names; what is joined already stays so.
    """
    heads = Counter(map(head, captions.values()))
    first: dict[str, str] = {}
    for name, caption in captions.items():
        groups.join(name, first.setdefault(phrase(caption), name))
        if heads[noun := head(caption)] <= MOST_OF_A_THING:
            groups.join(name, first.setdefault(noun, name))
