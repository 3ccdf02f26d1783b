"""Measurements of what this package promises; each is a module with `run(folder, small)`."""

BENCHES = {
    "resume": "20 kills of a training process; the batches are bit-identical to one never killed",
    "elastic": "1, 2 and 4 ranks, changed on the way; every step has the same samples",
    "resume-cost": "bytes of a state, and seconds from it to the first batch of 1M samples",
    "speed": "samples per CPU-second beside webdataset, Energon and bare decoding",
    "pack": "padding of packs on three mixes of lengths; no sample waits more than the window",
    "balance": "spread of the cost of 8 ranks at 4 packs each",
    "damage": "damaged and hostile shards; all intact samples delivered, all bad ones counted",
    "zoo": "media of every format, depth, rate and orientation; read rightly, and facts as decoded",
    "mix": "realised weights of a mixture at every prefix, and after a resume",
    "cluster": "one build alone, in 3 parts, and by 2 Ray workers of which 1 is killed: same bytes",
    "shuffle": "how well the order is mixed, and memory over three epochs",
}
