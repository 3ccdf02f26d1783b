"""What a server counts, as Prometheus reads it."""

SECONDS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300)  # bounds of the latencies' buckets


class Metrics:
    """Numbers of one engine and the server before it, in a registry of their own."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.registry = CollectorRegistry()
        self.waiting = Gauge("omni_waiting", "Requests that wait", registry=self.registry)
        self.running = Gauge("omni_running", "Requests being answered", registry=self.registry)
        self.prompts = Counter("omni_prompt_tokens", "Tokens of prompts that were answered",
                               registry=self.registry)  # fmt: skip
        self.generated = Counter("omni_generated_tokens", "Tokens of answers",
                                 registry=self.registry)  # fmt: skip
        self.requests = Counter("omni_requests", "Requests by path and HTTP status",
                                ("path", "status"), registry=self.registry)  # fmt: skip
        self.first = Histogram("omni_first_token_seconds", "From a request to its first token",
                               buckets=SECONDS, registry=self.registry)  # fmt: skip
        self.whole = Histogram("omni_answer_seconds", "From a request to the end of its answer",
                               buckets=SECONDS, registry=self.registry)  # fmt: skip

    @property
    def page(self) -> bytes:
        """All of them, in Prometheus' text format."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry)
