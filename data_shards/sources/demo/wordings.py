"""How the questions of the source `vqa` are put; none is one that the evaluation asks.

A test compares every wording with every question of the mini suite.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Wording:
    """Of one kind of question: put openly or with options, and as a claim with an {answer}."""

    open: tuple[str, ...]
    claim: tuple[str, ...] = ()


WORDINGS = {
    # pages of several captioned pictures
    "count": Wording(
        ("How many pictures are on this page?", "Count the pictures on the page."),
        ("Is {answer} the number of pictures on this page?", "Counting the pictures: {answer}?"),
    ),
    "count_kind": Wording(
        ("How many of the pictures show {thing}?", "Count the pictures that show {thing}."),
        ("Is {answer} the number of pictures that show {thing}?",),
    ),
    "side": Wording(
        (
            "On which side of {other} do you see {thing}?",
            "Seen from {other}, to which side is {thing}?",
        ),
        ("Is {thing} to the {answer} of {other}?", "From {other}, is {thing} to the {answer}?"),
    ),
    "height": Wording(
        ("Is {thing} higher or lower than {other}?", "Compared with {other}, how high is {thing}?"),
        ("Does {thing} stand {answer} than {other} on the page?",),
    ),
    "corner": Wording(
        ("Which corner holds {thing}?", "Name the corner where {thing} is."),
        ("Does the {answer} corner hold {thing}?", "Is {thing} in the {answer} corner?"),
    ),
    "corner_kind": Wording(
        ("Name the kind of thing in the {corner} corner.", "What sort is the {corner} picture?"),
        ("Is the kind of thing in the {corner} corner: {answer}?",),
    ),
    "same": Wording(
        ("Are the two kinds of things the same or different?", "Two of a kind: same or different?"),
        ("Two kinds of things: {answer}?", "Same or different kinds: are they {answer}?"),
    ),
    "odd": Wording(
        (
            "One picture does not belong with the others. Of what kind is it?",
            "Which kind is here only once?",
        ),
        ("Is the odd one out of the kind {answer}?", "Does the kind {answer} stand alone here?"),
    ),
    # charts and tables
    "read": Wording(
        ("How much is given for {name}?", "Read off the number for {name}."),
        ("Does {name} come to {answer}?", "Is {answer} the number for {name}?"),
    ),
    "entry": Wording(
        ("For which entry is {value} given?", "Whose number is {value}?"),
        ("Is {value} the number that belongs to {answer}?",),
    ),
    "most": Wording(
        ("Which entry has the most?", "Name the entry with the greatest number."),
        ("Does {answer} have the most of all?", "Does {answer} come first by its number?"),
    ),
    "least": Wording(
        ("Which entry has the least?", "Name the entry with the smallest number."),
        ("Does {answer} have the least of all?", "Does {answer} come last by its number?"),
    ),
    "apart": Wording(
        ("How far apart are {name} and {other}?", "By how much do {name} and {other} differ?"),
        ("Do {name} and {other} lie {answer} apart?",),
    ),
    "more": Wording(
        ("Of {name} and {other}, which has more?", "{name} or {other}: who has more?"),
        ("Of {name} and {other}, does {answer} have more?",),
    ),
    "entries": Wording(
        ("How many entries are listed?", "Count the entries."),
        ("Are {answer} entries listed?", "Counting the entries: {answer}?"),
    ),
    # diagrams
    "next": Wording(
        ("Where does the arrow from {name} lead?", "Which box comes right after {name}?"),
        ("Does an arrow lead from {name} to {answer}?",),
    ),
    "before": Wording(
        ("From which box does an arrow lead to {name}?", "Which box comes right before {name}?"),
        ("Is {answer} the box right before {name}?",),
    ),
    "boxes": Wording(
        ("How many boxes does the diagram have?", "Count the boxes."),
        ("Does the diagram have {answer} boxes?",),
    ),
    # words and numbers
    "word": Wording(
        ("Read the sign aloud.", "What does it say here?", "Which word do you see?"),
        ('Does it say "{answer}"?', 'Can you read "{answer}" here?'),
    ),
    "initial": Wording(
        ("With which letter does the word begin?", "Name the first letter of the word shown."),
        ("Does the word begin with {answer}?",),
    ),
    "letters": Wording(
        ("How many letters does the word have?", "Count the letters of the word."),
        ("Is the word {answer} letters long?",),
    ),
    "number": Wording(
        ("Which number do you see?", "Read the number.", "What number is shown?"),
        ("Is this the number {answer}?", "Can you read {answer} here?"),
    ),
    "digits": Wording(
        ("How many digits does the number have?", "Count the digits."),
        ("Is {answer} the number of digits?",),
    ),
    "parity": Wording(
        ("Is this number odd or even?", "Odd or even?"), ("Is the number {answer}?",)
    ),
    # text alone: an option is found by its letter, and a letter by its option
    "member": Wording(
        ("Which option is {thing}?", "One of these is {thing}. Which?", "Find {thing}."),
    ),
    "says": Wording(
        ('Which option reads "{text}"?', "Find this option: {text}", "The answer is {text}."),
    ),
    "opposite": Wording(
        ('Which word is the opposite of "{word}"?', 'What turns "{word}" around?'),
    ),
    "capital": Wording(
        ("Which city is the capital of {country}?", "From where is {country} governed?"),
    ),
    "largest": Wording(
        ("Which number is the largest?", "Find the largest number."),
    ),
    "behind": Wording(
        ("What stands behind the letter {letter}?", "Repeat option {letter}."),
        ('Does the letter {letter} stand for "{answer}"?',),
    ),
}
SHORTLY = ("", "", "Keep it short.", "A word or a number is enough.")
YES_OR_NO = ("", "", "Say yes or no.", "(yes or no)")
LETTER = (
    "Reply with the letter alone.", "Just the letter, please.", "Which letter is it?",
    "Give me the letter of your choice.",
)  # fmt: skip
LAYOUTS = ("{letter}. {option}", "{letter}) {option}", "({letter}) {option}", "{letter}: {option}")
JOINTS = ("\n", "\n", " ", "; ")  # between options
