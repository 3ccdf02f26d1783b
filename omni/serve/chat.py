"""omni-chat: one question from the command line, or a conversation in the terminal."""

import contextlib
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ..generation.settings import Generation
from ..load import CheckpointError, check_checkpoint, load
from ..processing.messages import Message, assistant, audio, image, user, video
from .command import announce, refused
from .start import StartError, bind, check_extra

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="markdown")

HELP = """\
/image PATH   attach a picture to the next message (again for a second one)
/audio PATH   attach a sound to the next message
/video PATH   attach a video to the next message
/reset        forget the conversation and what is attached
/quit         leave (so does Ctrl-D); Ctrl-C stops an answer"""
Ask = Callable[[list[Message]], str]  # streams the answer to stdout, and returns it
NEEDED = ("gradio", "prometheus_client")  # for the page
PARTS = {"image": image, "audio": audio, "video": video}


class ChatError(RuntimeError):
    """Something that the user can mend; one line says what."""


@app.command()
def chat(
    checkpoint: Annotated[Path, typer.Argument(help="folder that a stage saved")],
    text: Annotated[
        str | None, typer.Argument(help="the question; none, and no media: a conversation")
    ] = None,
    images: Annotated[
        list[str] | None, typer.Option("--image", metavar="PATH", help="a picture; repeatable")
    ] = None,
    sounds: Annotated[
        list[str] | None, typer.Option("--audio", metavar="PATH", help="a sound; repeatable")
    ] = None,
    videos: Annotated[
        list[str] | None, typer.Option("--video", metavar="PATH", help="a video; repeatable")
    ] = None,
    max_new_tokens: Annotated[
        int, typer.Option(min=1, help="most tokens in an answer; more are cut off")
    ] = 256,
    temperature: Annotated[
        float, typer.Option(min=0, help="how freely tokens are drawn; 0 takes the most likely ones")
    ] = 0.0,
    top_p: Annotated[
        float, typer.Option(help="draw from the likeliest tokens with this much probability")
    ] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="another one draws other tokens")] = 0,
    thinking: Annotated[
        int | None, typer.Option(min=0, help="most tokens of thinking before an answer")
    ] = None,
    speak: Annotated[
        Path | None,
        typer.Option(metavar="FILE.wav", help="write the answer spoken; a conversation's last one"),
    ] = None,
    ignore_end: Annotated[
        int, typer.Option(min=0, help='so many ends of it become "Wait", with --thinking')
    ] = 0,
    web: Annotated[bool, typer.Option("--web", help="a page in the browser")] = False,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="of the page, at 127.0.0.1; 0: any free one")
    ] = 7860,
    data: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="shards whose held-out part has examples for the page"),
    ] = None,
    against: Annotated[
        Path | None, typer.Option(metavar="CHECKPOINT", help="compare with it on the page")
    ] = None,
    blind: Annotated[
        bool, typer.Option("--blind", help="hide which model is which until the vote")
    ] = False,
    votes: Annotated[
        Path, typer.Option(metavar="DIR", help="where votes are kept, for the objective dpo")
    ] = Path("votes"),
) -> None:
    """Ask a model about pictures and sounds, once or in a conversation.

    Example, after a quickstart:

        omni-chat runs/quickstart/sft "What is this?" --image photo.jpg

    A spoken question needs no text: `omni-chat CHECKPOINT --image photo.jpg --audio question.wav`

    The same question has the same answer. Others are drawn with `--temperature 0.7 --seed 1`.

    `omni-chat CHECKPOINT --web` is a page for all of that, and with `--against OTHER` one that
    asks both and keeps votes.
    """
    given = {"image": images, "audio": sounds, "video": videos}
    media = [(kind, path) for kind, paths in given.items() for path in paths or []]
    try:
        if ignore_end and thinking is None:
            raise ChatError("--ignore-end is of a budget; add --thinking")
        budget = None if thinking is None else {"max": thinking, "ignore_end": ignore_end}
        generation = _generation(max_new_tokens, temperature, top_p, seed, budget)
        # a wrong path should not cost the time to load a model
        parts = [_part(kind, path) for kind, path in media]
        if speak and not speak.expanduser().parent.is_dir():
            raise ChatError(f"{speak}: there is no such folder to write to")
        check_checkpoint(checkpoint)
        if web:
            if text is not None or parts or speak:
                raise ChatError("questions are asked on the page; leave them out beside --web")
            if ignore_end:
                raise ChatError("--ignore-end is not for the page; leave it out beside --web")
            _browse(checkpoint, against, generation, port, data or [], votes, blind)
            return
        if against or blind or data:
            raise ChatError("--against, --blind and --data are for the page; add --web")
        announce(f"loading {checkpoint}", aside=True)
        ask = _load(checkpoint, generation, speak)
        if text is None and not parts:
            converse(ask)
        else:
            ask([user(*parts, *([text] if text else []))])
    except (ChatError, CheckpointError, StartError) as error:
        raise refused(error) from error
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def converse(ask: Ask) -> None:
    """Read lines from the terminal until /quit or Ctrl-D; no error ends the conversation."""
    with contextlib.suppress(ImportError):  # a Python built without it
        import readline  # noqa: F401 - line editing and history for input()
    print(f"{HELP}\n")
    history: list[Message] = []
    attached: list[dict[str, Any]] = []
    while True:
        try:
            line = input(f"[{len(attached)} attached] > " if attached else "> ").strip()
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print("  (/quit or Ctrl-D to leave)")
            continue
        if line == "/quit":
            return
        try:
            if line == "/reset":
                history, attached = [], []
                print("forgotten")
            elif line.startswith("/"):
                attached.append(_attach(line))
            elif line or attached:
                turn = user(*attached, *([line] if line else []))
                attached = []
                history = [*history, turn, assistant(ask([*history, turn]))]
        except ChatError as error:
            print(f"error: {error}")
        except KeyboardInterrupt:
            print("\n(stopped; that message is forgotten)")


def _browse(
    checkpoint: Path, against: Path | None, generation: Generation, port: int,
    data: list[Path], votes: Path, blind: bool,
) -> None:  # fmt: skip
    """Show the page, once all that could be wrong was looked at."""
    from .page.examples import ExampleError, shards

    check_extra("web", NEEDED)
    if blind and not against:
        raise ChatError("--blind hides which of two models is which; add --against CHECKPOINT")
    checkpoints = [checkpoint]
    if against:
        check_checkpoint(against)
        if against.resolve() == checkpoint.resolve():
            raise ChatError(f"--against {against}: the same checkpoint; give another one")
        checkpoints.append(against)
    try:
        for folder in data:
            shards(folder)
    except ExampleError as error:
        raise ChatError(str(error)) from error
    with bind("127.0.0.1", port) as bound:
        announce(f"loading {' and '.join(map(str, checkpoints))}", aside=True)
        from .page.site import open_page

        open_page(checkpoints, bound, generation, data, votes if against else None, blind)


def _attach(line: str) -> dict[str, Any]:
    """Turn an `/image PATH` line, or one of another medium, into a part."""
    command, _, rest = line.partition(" ")
    kind = command[1:]
    if kind not in PARTS:
        raise ChatError(f"{command}: unknown command; there are\n{HELP}")
    try:
        words = shlex.split(rest)  # a path with spaces may be quoted
    except ValueError:
        words = [rest]
    path = rest if Path(rest).is_file() else " ".join(words)
    if not path:
        raise ChatError(f"{command}: give a path, e.g. {command} file")
    part = _part(kind, path)
    print(f"attached {path}")
    return part


def _part(kind: str, path: str) -> dict[str, Any]:
    """Check that the file can be decoded, and return it as a message part."""
    from ..media.decode import MediaError, load_audio, load_image
    from ..media.video import load_video

    file = Path(path).expanduser()
    try:
        {"image": load_image, "audio": load_audio, "video": load_video}[kind](file)
    except (MediaError, OSError) as error:
        text = str(error)
        raise ChatError(text if text.startswith(str(file)) else f"{file}: {text}") from error
    return PARTS[kind](file)


def _generation(
    max_new_tokens: int, temperature: float, top_p: float, seed: int,
    thinking: dict[str, Any] | None,
) -> Generation:  # fmt: skip
    try:
        return Generation(
            max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed,
            thinking=thinking,
        )  # fmt: skip
    except ValueError as error:
        raise ChatError(str(error)) from error


def _load(checkpoint: Path, generation: Generation, speak: Path | None) -> Ask:
    """Load the model and return the function that answers a conversation, and speaks if asked to.

    Raises:
        ChatError: it is asked to, and the model cannot.
    """
    import torch
    from transformers import TextStreamer

    from ..generation.answer import answer
    from ..generation.speech import SpeechError, audio_head
    from ..media.decode import MediaError
    from ..processing.messages import MessageError
    from ..processing.processor import PlaceholderError
    from .speech.file import UnwrittenError, answer_aloud

    model, processor = load(checkpoint)
    try:
        if speak:
            audio_head(model)
    except SpeechError as error:
        raise ChatError(f"{checkpoint}: {error}") from error
    if torch.cuda.is_available():
        model.to("cuda")  # type: ignore[arg-type]

    def ask(messages: list[Message]) -> str:
        streamer = TextStreamer(processor.tokenizer, skip_prompt=True, skip_special_tokens=True)
        try:
            if speak:
                path = speak.expanduser()
                text, told = answer_aloud(model, processor, messages, generation, path, streamer)
                print(told)
                return text
            return answer(model, processor, [messages], generation, streamer)[0]
        except UnwrittenError as error:
            raise ChatError(str(error)) from error
        except (MediaError, MessageError, PlaceholderError, RuntimeError) as error:
            raise ChatError(_one_line(error)) from error

    return ask


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    app()
