"""Cities of the navigation world: names of landmarks, and colours of what is drawn."""

from dataclasses import dataclass

FORMS = ("tower", "dome", "pyramid", "arch", "windmill", "church", "stairs", "wheel")
"""landmarks that are drawn, in every city"""


@dataclass(frozen=True)
class City:
    """What a city looks like: its landmarks by name, and its palette.

    `sky`, `ground`, `road` and `line` are one colour each; `walls` those of houses, `marks` those
    of landmarks.
    """

    landmarks: tuple[str, ...]
    sky: str
    ground: str
    road: str
    line: str
    walls: tuple[str, ...]
    marks: tuple[str, ...]


CITIES = {
    "first": City(
        ("Harper's Bakery", "the Grand Cinema", "Lindell Library", "Oak Street Bank",
         "the Blue Diner", "Fenwick Pharmacy", "the Post Office", "Marlow Books",
         "Saint Clare Hospital", "the Old Theatre", "Pine Hotel", "Rowan School"),
        "#a9cdee", "#8fae7f", "#57575c", "#e9e4c9",
        ("#c9b59a", "#b9a58f", "#d2c6b2", "#a8a29a"), ("#b5383b", "#2f5f9e", "#3c7a45", "#7d4a94"),
    ),
    "second": City(
        ("Café Zentral", "the Fish Market", "Akiba Arcade", "Museo del Mar", "Tram Depot Nine",
         "the Lantern Temple", "Bazaar Gate", "Kiosk Almira", "the Ferry Pier", "Villa Montes",
         "Noodle House Wei", "the Clock Fountain"),
        "#2b2547", "#4a3a3f", "#8c6f55", "#f2a65a",
        ("#6a4c6d", "#54627b", "#7b5a4e", "#44505c"), ("#f2d14b", "#3fd0c9", "#f07fb0", "#e8e8ea"),
    ),
}  # fmt: skip
