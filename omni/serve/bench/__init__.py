"""Measurements of what the server promises; each is a module with `run(count, seed)`."""

BENCHES = {
    "hostile": "1,000 hostile requests: each refused with a reason, neighbours' answers unchanged",
    "load": "many clients at once: answers equal to one by one, at twice the throughput or more",
    "peer": "the same text model behind transformers serve: not slower, same answers",
    "disconnect": "tokens still written for a client that has gone; a worker dies and is replaced",
}
