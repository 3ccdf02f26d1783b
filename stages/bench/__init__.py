"""Measurements of what this package promises; each is a module with `run(folder, small)`."""

BENCHES = {
    "throughput": "useful tokens a second beside transformers.Trainer, padding to the longest",
    "head": "loss and memory of logits at label positions alone",
    "cache": "samples a second of an alignment stage with stored features and without",
    "resume": "losses and weights after kills and SIGTERM, bit by bit",
    "elastic": "one rank, two, and back; two ranks' sharded checkpoint on one",
    "mixed": "two ranks, one with text only and one with image and audio; no hang, same gradients",
    "codec": "an audio tokenizer after its stage: usage of codes, error by number of books",
    "stream": "speech in chunks of 1, 3 and 10 frames beside all at once; first sound, how fast",
    "offender": "a sample that makes NaN and one too big for memory are named and left out",
}
