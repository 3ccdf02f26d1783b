"""Measurements of what this package promises; each is a module with `run(folder, small)`."""

BENCHES: dict[str, str] = {
    "oracle": "the truth scores 100 on all ten rows, a constant answer and a blind one chance",
    "scorers": "the ten by VLMEvalKit's rules against a checkout of it, and what official rules do",
    "speed": "stock lmms-eval's generic transformers model on the same weights, rows and answers",
    "prefix": "circular questions: what they have in common runs once, against once for each",
    "resume": "kill -9 at a quarter, half and three quarters; at most one batch is asked again",
    "stale": "new weights at the same path, other pictures to the same questions: all is asked",
}
