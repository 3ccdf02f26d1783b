"""What a model speaks, heard back."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from omni.processing.identity import identify

from .ranks import Ranks

TOGETHER = 16  # answers that are spoken at once


class Heard(NamedTuple):
    """What was heard of a spoken answer."""

    text: str
    """"" where nothing was spoken"""
    seconds: float
    ended: bool
    """by the model, not at the most frames"""
    timbre: tuple[float, ...] = ()
    """whose voice it is in, see `eval.scoring.timbre`"""


class Speaker:
    """Speaks answers, and has them heard by a recogniser; what was spoken once is kept.

    Args:
        model: with a codec and a depth head.
        processor: the one saved beside it.
        sampling: fields of `Generation`; temperature and seed hold for codes too.
    """

    def __init__(self, model: Any, processor: Any, sampling: Mapping[str, Any]):
        self.model, self.processor, self.sampling = model, processor, sampling
        self.recogniser: Any = None
        self._heard: dict[Any, Heard] = {}

    def __call__(
        self, conversations: Sequence[Any], texts: Sequence[str], answers: Sequence[str],
        ranks: Ranks,
    ) -> list[Heard]:  # fmt: skip
        """Speak the text of the answer to each conversation, and return what was heard of it.

        Args:
            conversations: each ends with a user.
            texts: of the answers, as the model wrote them.
            answers: that the recogniser chooses among.
            ranks: each speaks its share, and returns all.

        Raises:
            WeightsError: the recogniser cannot be had.
        """
        among = tuple(sorted(set(answers)))
        keys = [(identify(shown).whole, text, among)
                for shown, text in zip(conversations, texts, strict=True)]  # fmt: skip
        fresh = {key: at for at, key in enumerate(keys) if key not in self._heard}
        by_place = {str(at): key for key, at in fresh.items()}
        mine = [int(at) for at in ranks.share({at: len(key[1]) for at, key in by_place.items()})]
        for start in range(0, len(mine), TOGETHER):
            some = mine[start : start + TOGETHER]
            found = self._speak(
                [conversations[at] for at in some], [texts[at] for at in some], among
            )
            self._heard |= {keys[at]: one for at, one in zip(some, found, strict=True)}
        for theirs in ranks.gather({keys[at]: self._heard[keys[at]] for at in mine}):
            self._heard |= theirs
        return [self._heard[key] for key in keys]

    def _speak(
        self, shown: Sequence[Any], texts: Sequence[str], among: Sequence[str]
    ) -> list[Heard]:
        from omni.generation.sound import Voice
        from omni.generation.speech import Speaking, say
        from omni.heads.mel import RATE

        from ..scoring.timbre import profile

        found = [Heard("", 0.0, True)] * len(texts)
        places = [at for at, text in enumerate(texts) if any(map(str.isalnum, text))]
        if not places:
            return found
        kept = {key: self.sampling[key] for key in ("temperature", "seed") if key in self.sampling}
        spoken = say(self.model, self.processor, [shown[at] for at in places],
                     [texts[at] for at in places], Speaking(**kept))  # fmt: skip
        voice = Voice(self.model)
        for at, one in zip(places, spoken, strict=True):
            wave = voice.wave(one.codes)
            text = self._hear(wave, among) if len(wave) else ""
            found[at] = Heard(text, len(wave) / RATE, one.finish == "stop", profile(wave))
        return found

    def _hear(self, wave: Any, among: Sequence[str]) -> str:
        if self.recogniser is None:
            from ..scoring.recogniser import Recogniser

            self.recogniser = Recogniser()
        return self.recogniser.heard(wave, among)
