"""One official sample in our words."""

from ..lmms.bridge import Sample
from ..scoring.right import Outcome


def outcome(
    sample: Sample,
    question: str,
    expected: str,
    correct: float,
    group: str = "",
    category: str = "",
) -> Outcome:
    """The answer that was scored, with what was asked and expected."""
    answer = sample["filtered_resps"][0]
    return Outcome(
        str(sample["doc_id"]), question, expected, answer, float(correct), group, category
    )
