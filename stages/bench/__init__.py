"""Measurements of what this package promises; each is a module with `run(folder, small)`."""

BENCHES = {
    "throughput": "useful tokens a second beside transformers.Trainer, padding to the longest",
    "head": "loss and memory of logits at label positions alone",
    "cache": "samples a second of an alignment stage with stored features and without",
    "resume": "losses and weights after kills and SIGTERM, bit by bit",
    "elastic": "one rank, two, and back; two ranks' sharded checkpoint on one",
    "mixed": "two ranks, one with text only and one with image and audio; no hang, same gradients",
    "offender": "a sample that makes NaN and one too big for memory are named and left out",
    "dpo": "pairs a CPU-second beside TRL's DPOTrainer, at equal loss",
    "spin": "does self-play bring own answers nearer to real ones, round by round",
    "cft": "are answers judged rightly after critiques; own answers beside those of SFT",
    "guard": "F1 of a guard model after reasoning SFT, and what hard pairs add",
    "thinking": "budgets of thinking: kept by every answer, and worth points",
    "preferences-omni": "DPO on pictures and sounds: held-out pairs, and shuffled media",
}
