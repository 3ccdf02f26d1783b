"""Measurements of what this package promises; each is a module with `run(folder, small)`."""

BENCHES: dict[str, str] = {
    "oracle": "the truth scores 100 on all ten rows, a constant answer and a blind one chance",
}
