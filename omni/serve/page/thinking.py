"""An answer with a budget of thinking: alone on the model, told token by token, and stoppable."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...generation.settings import Generation
from ..ticket import Ended, Event, GoneError, Wrote

if TYPE_CHECKING:
    import torch

    from ...processing.processor import Encoded
    from ..engine import Engine


def think(
    engine: "Engine", prompt: "Encoded", key: str, generation: Generation,
    report: Callable[[Event], None], gone: Callable[[], bool],
) -> None:  # fmt: skip
    """Answer a prompt in the engine's thread, see `Engine.lend`.

    Args:
        engine: lends its model.
        prompt: encoded up to the header of the answer.
        key: what tells prompts apart where tokens are drawn.
        generation: how, with a budget.
        report: takes events.
        gone: whether nobody waits any more, asked with every token.

    Raises:
        GoneError: nobody waits any more.
    """
    from ...generation.answer import complete

    batch = engine.processor.pad([prompt])
    streamer: Any = _Streamer(engine.processor.tokenizer, report, gone)
    [found] = complete(engine.model, engine.processor, batch, generation, streamer, [key])
    report(Ended(0, found))


class _Streamer:
    """Takes the prompt, then token by token what `generate` makes."""

    def __init__(self, tokenizer: Any, report: Callable[[Event], None], gone: Callable[[], bool]):
        self.tokenizer, self.report, self.gone = tokenizer, report, gone
        self.ids: list[int] | None = None

    def put(self, value: "torch.Tensor") -> None:
        from ...generation.thinking import spell
        from ...generation.watch import settled

        if self.gone():
            raise GoneError("stopped")
        if self.ids is None:  # the prompt
            self.ids = []
            return
        self.ids += value.flatten().tolist()
        self.report(Wrote(0, settled(spell(self.tokenizer, self.ids), ())))

    def end(self) -> None:
        """Nothing: the completion is reported."""
