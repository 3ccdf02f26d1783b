"""Measurements of what this package promises; each is a module with `run(folder, small)`."""

BENCHES = {
    "throughput": "useful tokens a second beside transformers.Trainer, padding to the longest",
    "head": "loss and memory of logits at label positions alone",
    "cache": "samples a second of an alignment stage with stored features and without",
    "resume": "losses and weights after kills and SIGTERM, bit by bit",
    "elastic": "one rank, two, and back; two ranks' sharded checkpoint on one",
    "mixed": "two ranks, one with text only and one with image and audio; no hang, same gradients",
    "stages": "staged against joint, aligned first, voices, emoji: scores on held-out data",
    "ratio": "how exactly answers are scored as they were drawn: text, image, audio, turns, top-p",
    "rollout": "tokens a CPU-second of groups of answers beside one by one and a plain batch",
    "rl-resume": "losses and weights of a rollout stage after kills at random moments",
    "generalpoints": "held-out hands of cards solved before and after reinforcement",
    "codec": "an audio tokenizer after its stage: usage of codes, error by number of books",
    "stream": "speech in chunks of 1, 3 and 10 frames beside all at once; first sound, how fast",
    "offender": "a sample that makes NaN and one too big for memory are named and left out",
    "dpo": "pairs a CPU-second beside TRL's DPOTrainer, at equal loss",
    "spin": "does self-play bring own answers nearer to real ones, round by round",
    "cft": "are answers judged rightly after critiques; own answers beside those of SFT",
    "guard": "F1 of a guard model after reasoning SFT, and what hard pairs add",
    "thinking": "budgets of thinking: kept by every answer, and worth points",
    "preferences-omni": "DPO on pictures and sounds: held-out pairs, and shuffled media",
}
