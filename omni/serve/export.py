"""`omni-train export`: a checkpoint as vLLM's transformers backend takes it.

That backend is told which class to make by `auto_map`, renders conversations by the chat template
alone, and caches media one by one. Its side of the contract, read in vLLM 0.32, is answered by
`omni.model.headless`, `omni.processing.offsets` and the template that is written here.
"""

import os
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

IN_PARTS = """\
{%- set in_one = namespace(messages=[], text='') -%}
{%- for message in messages -%}
{%- if message['content'] is string or not message['content'] -%}
{%- set in_one.messages = in_one.messages + [message] -%}
{%- else -%}
{%- set in_one.text = '' -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'text' -%}
{%- set in_one.text = in_one.text + part['text'] -%}
KINDS
{%- else -%}
{{- raise_exception('a part of type ' + part['type'] + ' is not read by this model') -}}
{%- endif -%}
{%- endfor -%}
{%- set in_one.messages = in_one.messages + [dict(message, content=CONTENT)] -%}
{%- endif -%}
{%- endfor -%}
{%- set messages = in_one.messages -%}
{{- '' }}"""
KIND = """\
{%- elif part['type'] in ('MEDIUM', 'MEDIUM_url', 'input_MEDIUM') -%}
{%- set in_one.text = in_one.text + 'TOKEN' -%}"""
FAILS = {
    "gpt2": "its layers are no nn.Linear",
    "llama4_text": "the weights of its experts are laid out otherwise",
    "mixtral": "its answers are others there",
}
"""LLMs that vLLM 0.32 does not load, or does not run as transformers does"""
WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "generation_config.json", "README.md")


class ExportError(ValueError):
    """A checkpoint that vLLM cannot serve; the text says why, and what to do."""


def export(
    checkpoint: Annotated[Path, typer.Argument(help="an omni model")],
    out: Annotated[Path, typer.Argument(help="the folder to make")],
) -> None:
    """Write CHECKPOINT to OUT as vLLM's transformers backend serves it; weights are linked.

    Then, where vLLM and omni-stages are both installed:
    `vllm serve OUT --trust-remote-code`. Images and sounds are read; videos are not, and answers
    are text. What vLLM could not serve rightly is refused by name. Of a model that has text alone
    the LLM is written.

    Example: `omni-train export runs/quickstart/sft served`
    """
    from omni.load import CheckpointError

    try:
        write(checkpoint, out)
    except (CheckpointError, ExportError) as error:
        typer.echo(f"omni-train export: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"{out}: serve it with `vllm serve {out} --trust-remote-code`")


def write(checkpoint: Path, out: Path) -> None:
    """Write a checkpoint as vLLM takes it, whole or not at all.

    Raises:
        CheckpointError: it is no whole checkpoint.
        ExportError: there is something at `out`, or vLLM would not serve it as it answers here.
    """
    from omni import OmniConfig, OmniProcessor
    from omni.files.atomic import replacing
    from omni.load import check_checkpoint, load

    check_checkpoint(checkpoint)
    if out.exists():
        raise ExportError(f"{out} is there already: name a folder that is not")
    config = OmniConfig.from_pretrained(checkpoint)
    check(config)
    processor: Any = OmniProcessor.from_pretrained(checkpoint)
    with replacing(out) as scratch:
        scratch.mkdir()
        if not config.modalities:
            model, _ = load(checkpoint, "auto")
            model.language_model.save_pretrained(scratch)
            processor.tokenizer.chat_template = processor.chat_template
            processor.tokenizer.save_pretrained(scratch)
            return
        processor.chat_template = in_parts(processor)
        for pattern in WEIGHTS:
            for file in checkpoint.glob(pattern):
                _link(file, scratch / file.name)
        config.save_pretrained(scratch)
        processor.save_pretrained(scratch)


def check(config: Any) -> None:
    """Refuse a model that vLLM would not serve as it answers here.

    Raises:
        ExportError: says why.
    """
    from transformers import AutoModelForCausalLM

    from omni.encoders import readers
    from omni.model.sketch import on_meta

    kind = config.text_config.model_type
    for medium in ("image", "audio"):
        if len(several := list(readers(config.modalities, medium))) > 1:
            raise ExportError(f"{' and '.join(several)} both read {medium}, and vLLM knows one "
                              "encoder of each kind: serve it with omni-serve")  # fmt: skip
    if kind in FAILS:
        raise ExportError(f"vLLM's transformers backend fails on the LLM {kind} ({FAILS[kind]}): "
                          "serve it with omni-serve")  # fmt: skip
    llm: Any = on_meta(lambda: AutoModelForCausalLM.from_config(config.text_config))
    if not (llm.is_backend_compatible() and config.isolates and config.continues):
        raise ExportError(f"vLLM's attention does not fit the LLM {kind} (it keeps a state, or has "
                          "kernels of its own): serve it with omni-serve")  # fmt: skip

    if getattr(config.text_config, "logits_scaling", 1) != 1:
        raise ExportError(f"vLLM does not scale the logits of the LLM {kind}, so its probabilities "
                          "would be others: serve it with omni-serve")  # fmt: skip


def in_parts(processor: Any) -> str:
    """Return a chat template that takes content in parts, and then does what the model's own does.

    vLLM leaves parts to the template, which puts a placeholder for each medium.
    """
    from omni.encoders import readers
    from omni.processing.template import wants_parts

    own = processor.chat_template
    kinds = [KIND.replace("MEDIUM", medium).replace("TOKEN", processor.marker(medium))
             for medium in ("image", "audio") if readers(processor.modalities, medium)]  # fmt: skip
    content = "[{'type': 'text', 'text': in_one.text}]" if wants_parts(own) else "in_one.text"
    return IN_PARTS.replace("KINDS", "\n".join(kinds)).replace("CONTENT", content) + own


def _link(file: Path, to: Path) -> None:
    """Link a file, or copy it where the two are on different disks."""
    try:
        os.link(file.resolve(), to)
    except OSError:
        shutil.copyfile(file, to)
