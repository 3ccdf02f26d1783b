"""A row of voices: are words said in the voice of a clip that is shown?"""

from dataclasses import replace

import torch

from omni.heads.mel import RATE
from omni.media.decode import load_audio

from ..answering.speaker import Heard
from ..scoring.right import Outcome, Scored, proportion
from ..scoring.timbre import Profile, Timbres, profile
from .heldout import HeldOut
from .own import Doc, MissingDataError
from .speech import Speech
from .spoken import HEARD, spoken_docs

KIND = "imitate"


class InVoice(Speech):
    """A row of answers that sound more like the voice of their clip than like the others there are.

    Voices are told apart by the recordings in the data; `recordings` in its details is how many in
    a hundred of these are taken for their own voice, each told by the others.
    """

    def judge(
        self, held: HeldOut, docs: list[Doc], texts: list[str], heard: list[Heard], among: int
    ) -> Scored:
        """Tell the voices of answers apart.

        Raises:
            MissingDataError: there is nothing to hear in any recording.
        """
        recorded = _recorded(held)
        timbres = Timbres(recorded)
        found = [timbres.nearest(one.timbre) for one in heard]
        scored = proportion(
            [Outcome(doc.name, doc.question, doc.expected, voice, float(voice == doc.expected))
             for doc, voice in zip(docs, found, strict=True)], 100 / len(recorded),
        )  # fmt: skip
        known = _known(recorded)
        clips = sum(map(len, recorded.values()))
        scored.details |= {"voices": len(recorded), "recordings": round(known, 1),
                           "silent": len(held.spoken[KIND]) - clips}  # fmt: skip
        scored.details["rule"] = (
            f"which of {len(recorded)} voices an answer sounds like; "
            f"{known:.0f} % of the recordings sound like their own"
        )
        return scored


def _recorded(held: HeldOut) -> dict[str, list[Profile]]:
    """Return the profiles of the recordings of each voice; silent ones are left out."""
    found: dict[str, list[Profile]] = {}
    for sample in held.spoken[KIND]:
        [said] = [p["audio"] for p in sample.messages[-1]["content"] if p["type"] == "audio"]
        clip = profile(torch.from_numpy(load_audio(sample.parts[said], RATE)))
        found.setdefault(str(sample.meta["voice"]), []).extend([clip] if clip else [])
    if not any(found.values()):
        raise MissingDataError(f"no recording of kind {KIND!r} under {held.root} has a voice; "
                               f"build them again with speech --task {KIND}")  # fmt: skip
    return {voice: clips for voice, clips in found.items() if clips}


def _known(recorded: dict[str, list[Profile]]) -> float:
    """Return how many recordings of a hundred are nearest to the others of their voice."""
    right = []
    for voice, clips in recorded.items():
        for at, clip in enumerate(clips):
            others = clips[:at] + clips[at + 1 :] or clips
            right.append(Timbres({**recorded, voice: others}).nearest(clip) == voice)
    return 100 * sum(right) / len(right)


def _shown(held: HeldOut) -> list[Doc]:
    """Docs whose answer is a voice; their clip may be exchanged for one of another voice."""
    docs = spoken_docs(KIND, f"speech --task {KIND}", lambda s: str(s.meta["voice"]))(held)
    return [replace(doc, expected=doc.category, audio_identity=doc.category, category="")
            for doc in docs]  # fmt: skip


ROWS = (
    InVoice("voice", _shown, lambda outcomes: proportion(outcomes, 0.0), HEARD, 24, 120,
            how="own (by its spectrum and pitch)"),
)  # fmt: skip
