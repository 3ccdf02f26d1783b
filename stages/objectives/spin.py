"""Self-play (SPIN, arXiv 2401.01335): real answers against those of the stage's own parent."""

from .dpo import FIGURES, Dpo


class Spin(Dpo):
    """DPO with the real answer as chosen, and what the parent itself answers as rejected.

    The opponent is the model as the stage found it, frozen, and replaced by the next stage's.
    """

    figures = tuple(
        name.replace("chosen", "real").replace("rejected", "generated") for name in FIGURES
    )
