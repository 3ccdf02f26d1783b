"""How GeneralPoints asks: several wordings of the same task, for prompts that differ."""

from collections.abc import Sequence
from dataclasses import dataclass

RULES = {
    "ten": ("'J', 'Q' and 'K' count as '10'", "jack, queen and king are worth 10 each",
            "every face card (J, Q, K) is a 10"),
    "ranks": ("'J', 'Q' and 'K' count as '11', '12' and '13'",
              "jack, queen and king are worth 11, 12 and 13",
              "the face cards J, Q, K are 11, 12, 13"),
}  # fmt: skip
SEEN = {
    "text": ("Cards: {cards}.", "The hand is {cards}.", "You hold {cards}."),
    "image": ("The cards are in the image.", "Look at the cards in the picture.",
              "The picture shows your hand."),
    "spoken": ("The cards are read aloud.", "Listen to the cards.",
               "You hear your hand, a card after the other."),
}  # fmt: skip
FORMS = {
    "json": 'Answer in json: {{"cards": [...], "number": [their numbers], '
            '"formula": "a formula that equals {target}"}}',
    "formula": "Answer with the formula alone.",
}  # fmt: skip
TASKS = (
    "You play a card game. {seen} Here {rule}. Use the number of each card exactly once, with +, "
    "-, *, / and parentheses, in a formula that equals {target}. {form}",
    "{seen} Note that {rule}. Make {target} of all their numbers, each of them once, by adding, "
    "subtracting, multiplying and dividing. {form}",
    "Find a formula that equals {target}. {seen} In this game {rule}, and an ace is 1. Every card "
    "has to be used, none twice. {form}",
    "Rule: {rule}. {seen} Combine the cards with + - * / ( ) so that the result is {target}; each "
    "card counts once. {form}",
)

MOST = len(TASKS) * 3  # wordings


@dataclass(frozen=True)
class Wording:
    """One way to ask."""

    task: str
    rule: int
    seen: str

    def text(self, target: int, faces: str, cards: Sequence[str], form: str) -> str:
        """Return the prompt; cards are named where they are not shown."""
        said = {
            "seen": self.seen.format(cards=", ".join(cards)),
            "rule": RULES[faces][self.rule],
            "form": FORMS[form].format(target=target),
        }
        return self.task.format(target=target, **said)


def wordings_of(variant: str) -> tuple[Wording, ...]:
    """Return every wording, first those that differ in all three of their parts."""
    order = [(i % len(TASKS), i % 3) for i in range(MOST)]  # 4 and 3 have no divisor
    return tuple(Wording(TASKS[task], part, SEEN[variant][part]) for task, part in order)
