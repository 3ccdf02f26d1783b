"""Measurements of what this package promises; each is a module with `run(folder, small)`."""

BENCHES = {
    "throughput": "useful tokens a second beside transformers.Trainer, padding to the longest",
    "head": "loss and memory of logits at label positions alone",
    "cache": "samples a second of an alignment stage with stored features and without",
    "resolution": "the same weights through squares, NaFlex and tiles: tokens, time, padding",
    "resume": "losses and weights after kills and SIGTERM, bit by bit",
    "elastic": "one rank, two, and back; two ranks' sharded checkpoint on one",
    "mixed": "two ranks, one with text only and one with image and audio; no hang, same gradients",
    "offender": "a sample that makes NaN and one too big for memory are named and left out",
}
