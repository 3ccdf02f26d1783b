"""Plain text that is spelled like a special token: it stays text.

A tokenizer finds its special tokens wherever they stand, also in what a person wrote about them.
So where a conversation holds such words, single characters stand in for them until the template
has put its own special tokens around, and then both are told apart.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from tokenizers import AddedToken, Tokenizer

from .messages import MessageError

# planes 15 and 16 of Unicode are for private use: tokenizers know nothing of them
STAND_INS, ALIASES = range(0xF0000, 0xFFFFE), 0x100000
_known: "WeakKeyDictionary[Any, _Specials]" = WeakKeyDictionary()


def stand_ins(tokenizer: Any, texts: Sequence[str]) -> dict[str, str]:
    """Return a character that occurs in no text for each special token that does; mostly none."""
    specials = special_tokens(tokenizer)
    found = {word for text in texts for word in specials.within(text)}
    if not found:
        return {}
    used = set().union(*texts)
    free = (character for character in map(chr, STAND_INS) if character not in used)
    return dict(zip(sorted(found), free, strict=False))


def hide(text: str, standing: Mapping[str, str]) -> str:
    """Let characters stand in for the special tokens that a text spells, the longest first."""
    if not standing:
        return text
    words = sorted(standing, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, words)), lambda m: standing[m[0]], text)


def tokenize(tokenizer: Any, texts: Sequence[str], standing: Mapping[str, str]) -> list[list[int]]:
    """Tokenise texts after `hide`: special tokens are those of the template, all else is text.

    Raises:
        MessageError: the tokenizer cannot tell them apart.
    """
    if not standing:
        return tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    return special_tokens(tokenizer).tokenize(texts, standing)


def literal_ids(tokenizer: Any, text: str) -> list[int]:
    """Tokenise a text without a template: a special token that it spells is none.

    Raises:
        MessageError: as `tokenize`.
    """
    standing = stand_ins(tokenizer, [text])
    [ids] = tokenize(tokenizer, [hide(text, standing)], standing)
    return ids


def special_tokens(tokenizer: Any) -> "_Specials":
    """Return what is known of a tokenizer's special tokens, anew once it has more of them."""
    found = _known.get(tokenizer)
    if found is None or found.size != len(tokenizer):
        found = _known[tokenizer] = _Specials(tokenizer)
    return found


class _Specials:
    """The special tokens of a tokenizer, and a copy of it that knows them by other names."""

    def __init__(self, tokenizer: Any):
        self.size = len(tokenizer)
        self.tokens = {t.content: t for t in tokenizer.added_tokens_decoder.values() if t.special}
        self.ids = {word: tokenizer.convert_tokens_to_ids(word) for word in self.tokens}
        words = sorted(self.tokens, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, words)) or r"(?!)")
        self._firsts = {word[0] for word in words}
        self._aliases = {word: chr(ALIASES + n) for n, word in enumerate(words)}
        self._backend = getattr(tokenizer, "backend_tokenizer", None)
        self._copy: Tokenizer | None = None

    def within(self, text: str) -> list[str]:
        """Return the special tokens that a text spells, in order."""
        if not any(first in text for first in self._firsts):
            return []  # sooner than a pattern of hundreds of words
        return self._pattern.findall(text)

    def tokenize(self, texts: Sequence[str], standing: Mapping[str, str]) -> list[list[int]]:
        copy = self._renamed()
        words = {character: word for word, character in standing.items()}
        back = str.maketrans(words)  # type: ignore[arg-type]
        renamed = [
            self._pattern.sub(lambda m: self._aliases[m[0]], text).translate(back) for text in texts
        ]
        ids = {copy.token_to_id(self._aliases[word]): i for word, i in self.ids.items()}
        special = set(self.ids.values())
        rows = [encoding.ids for encoding in copy.encode_batch(renamed, add_special_tokens=False)]
        if any(i in special for row in rows for i in row):
            raise self._confused(standing)
        return [[ids.get(i, i) for i in row] for row in rows]

    def _renamed(self) -> Tokenizer:
        """Return the copy: it finds special tokens by their aliases, and takes their names as text.

        Raises:
            MessageError: the tokenizer is not one of the library `tokenizers`.
        """
        if self._copy is None:
            if not isinstance(self._backend, Tokenizer):
                raise self._confused(self.tokens)
            copy = Tokenizer.from_str(self._backend.to_str())
            copy.no_padding()
            copy.no_truncation()
            copy.encode_special_tokens = True
            copy.add_tokens([
                AddedToken(self._aliases[word], lstrip=t.lstrip, rstrip=t.rstrip, normalized=False)
                for word, t in self.tokens.items()
            ])  # fmt: skip
            self._copy = copy
        return self._copy

    def _confused(self, words: Any) -> MessageError:
        return MessageError(
            f"the text spells a special token ({', '.join(sorted(words)[:3])}), which this "
            "tokenizer cannot tell from the real one; write it in another way"
        )
