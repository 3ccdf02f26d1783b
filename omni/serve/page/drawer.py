"""The drawer of the page: how answers are generated."""

from typing import Any

from ...generation.settings import Generation
from ..limits import RequestLimits


class Drawer:
    """Sliders and boxes at the side, closed until they are wanted.

    Args:
        generation: what they begin with.
        limits: of an answer.
        speaks: whether the model can say its answers.
    """

    def __init__(self, generation: Generation, limits: RequestLimits, speaks: bool) -> None:
        import gradio as gr

        budget = generation.thinking.max if generation.thinking else None  # type: ignore[union-attr]
        most = limits.max_new_tokens
        with gr.Sidebar(label="Settings", open=False, position="right", elem_id="settings"):
            gr.Markdown("## Settings")
            self.fields: list[Any] = [
                gr.Slider(0, 2, generation.temperature, step=0.05, label="Temperature",
                          info="0 takes the likeliest token"),
                gr.Slider(0.05, 1, generation.top_p, step=0.05, label="Top p",
                          info="draw from the likeliest tokens with this much probability"),
                gr.Number(generation.seed, precision=0, minimum=0, label="Seed",
                          info="another one draws other tokens"),
                gr.Slider(1, most, min(generation.max_new_tokens, most), step=1,
                          label="Most tokens of an answer"),
                gr.Textbox("" if budget is None else str(budget), label="Most tokens of thinking",
                           info="empty: as many as the model likes"),
                gr.Checkbox(False, label="Speak answers", visible=speaks),
            ]  # fmt: skip

    @staticmethod
    def read(values: tuple[Any, ...], tries: int = 0) -> tuple[Generation, bool]:
        """Return what the fields say, and whether to speak.

        Args:
            values: of `fields`, in order.
            tries: how often the question was answered before; each draws with another seed.

        Raises:
            ValueError: one is out of its range.
        """
        temperature, top_p, seed, most, thinking, speak = values
        if thinking.strip() and not thinking.strip().isdecimal():
            raise ValueError(f"most tokens of thinking must be a whole number, not {thinking!r}")
        generation = Generation(
            max_new_tokens=int(most), temperature=temperature, top_p=top_p,
            seed=int(seed or 0) + tries,
            thinking={"max": int(thinking)} if thinking.strip() else None,
        )  # fmt: skip
        return generation, bool(speak)
