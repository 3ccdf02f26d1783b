"""Making a model: of a text LLM, then a modality at a time; or its sketch, without weights."""

from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from ..encoders import build_encoder, check_encoder, codec_of, encoder_class
from ..entry import EntryError
from ..heads import (
    GIVEN,
    HEADS,
    OF_FRAMES,
    OF_SPEECH,
    build_head,
    complete,
    role_of,
    weights_of,
)
from ..projectors import build_projector, load_projector
from ..weights import Part, WeightsError, resolve
from .buffers import build
from .card import PROJECTOR
from .config import OmniConfig
from .isolation import check_embeddings, continues, isolates
from .llm import llm_config, load_llm, packing
from .sketch import on_meta, without_values
from .spec import AS_WORDS, blaming, read_spec

if TYPE_CHECKING:
    from ..processing.processor import OmniProcessor


class Attaches(PreTrainedModel):
    """A model to which modalities are attached."""

    if TYPE_CHECKING:
        config: OmniConfig
        language_model: Any
        encoders: nn.ModuleDict
        projectors: nn.ModuleDict
        heads: nn.ModuleDict
        _computed: dict[str, torch.Tensor]
        end_with: Any

    @classmethod
    def from_text(cls, spec: str) -> Any:
        """Make a text-only omni model of a pretrained LLM; `spec` as in `omni.weights.resolve`.

        Raises:
            UnfitError: media cannot stand among the LLM's tokens.
            ValueError: the folder lacks weights, or has some in another shape.
        """
        part = resolve(spec)
        language_model = load_llm(part.folder)
        with torch.device("meta"):  # its random LLM is replaced: spend no memory on it
            model = cls(OmniConfig(language_model.config, parts={"text": part.record()}))
        model.language_model = packing(language_model)
        model.generation_config = language_model.generation_config
        check_embeddings(model.language_model.eval())
        model.config.isolates = isolates(model.eval())
        model.config.continues = model.config.isolates or continues(model)
        return model

    @classmethod
    def sketch(cls, spec: str) -> Any:
        """Make the model of a text LLM, or of an omni checkpoint, without its weights.

        It lies on the meta device: all names and shapes, no values, no memory, no download. What
        is attached to it has none either; its processor is a real one.

        Raises:
            WeightsError: it cannot be had.
        """
        part = resolve(spec, weights=False)
        config = AutoConfig.from_pretrained(part.folder)
        with torch.device("meta"):
            if not isinstance(config, OmniConfig):
                text = AutoModelForCausalLM.from_config(llm_config(config, part.folder)).config
                config = OmniConfig(text, parts={"text": part.record()})
            modalities, config.modalities = config.modalities, {}
            heads, config.heads = config.heads, {}
            model = cls(config)
        for name, modality in modalities.items():
            encoder, projector = model._sketch_parts(name, modality, None)
            model.encoders[name], model.projectors[name] = encoder.to("meta"), projector.to("meta")
        config.modalities = modalities
        for name, head in heads.items():
            model.heads[name] = on_meta(partial(build_head, head, model._given(head)))
        config.heads = heads
        return model

    def attach(self, name: str, spec: dict[str, Any], processor: "OmniProcessor") -> None:
        """Add a modality, an encoder (pretrained when the spec names weights) and a projector.

        Or add a head, such as one that speaks the codes of a modality that is attached already.
        Nothing else changes; a text-only prompt keeps its logits to the bit.

        Args:
            name: what the modality is called, e.g. "vision".
            spec: `{"encoder": {"kind": ..., "weights": ...}, "projector": {"kind": ...}}`, with
                `"as_words": SHARPNESS` to let its tokens be mixtures of words; a projector that is
                trained already has `weights`, too. Or `{"head": {"kind": ...}}`, with `weights`
                where the kind takes some.
            processor: gains the modality's placeholder and preprocessing; a codec, which turns
                sound into codes, is from then on what it hears with.

        Raises:
            EntryError: the name is taken, a kind is not registered, or the encoder is none whose
                features this project knows to place; the model is as it was.
            WeightsError: the encoder's weights cannot be had.
        """
        if name in self.config.modalities or name in self.config.heads:
            raise EntryError(f"modality {name!r} is attached already")
        if not name or "." in name or hasattr(self.encoders, name):
            raise EntryError(f"a modality cannot be called {name!r}; choose another name")
        if isinstance(spec, Mapping) and "head" in spec:
            return self._attach_head(name, spec)
        read = read_spec(name, spec)
        is_codec = read.projector["kind"] == "codes"
        if is_codec and (other := codec_of(self.config.modalities)):
            raise EntryError(f"modality {other!r} makes codes already; a model has one codec",
                             "encoder", "kind")  # fmt: skip
        is_sketch = self.device.type == "meta"
        part = resolve(read.weights, weights=not is_sketch) if read.weights else None
        describe = partial(
            encoder_class({"kind": read.kind}).describe, part and part.folder, **read.options
        )
        with blaming(f"encoder {read.kind!r}", "encoder"):
            described = {"kind": read.kind, **(on_meta(describe) if is_sketch else describe())}
        modality = {"encoder": described, "projector": read.projector}
        if read.as_words:
            modality[AS_WORDS] = read.as_words
        make = self._sketch_parts if is_sketch else self._build_parts
        with blaming(f"encoder {read.kind!r}", "encoder"):
            encoder, projector = make(name, modality, part)
        trained = self._load_projector(name, projector, read.trained)
        for of, known in ((name, part), (name + PROJECTOR, trained)):
            if known:
                self.config.parts[of] = known.record()
        modality["token_id"] = processor.add_placeholder(name)
        self.config.modalities[name] = processor.modalities[name] = modality
        self.end_with(processor.ends[0])
        # not the whole model: an LLM in half precision has tables in single precision
        self.encoders[name] = encoder.to(device=self.device, dtype=self.dtype)
        self.projectors[name] = projector.to(device=self.device, dtype=self.dtype)
        if is_codec:
            processor.hears = name

    def _load_projector(self, name: str, projector: nn.Module, source: str | None) -> Part | None:
        """Load a projector that is trained already; return where it comes from, if it does."""
        if source is None:
            return None
        part = self._part(source, "projector")
        if part.fetched:
            with blaming(f"projector {name!r}", "projector", "weights"):
                load_projector(projector, part.folder, name)
        return part

    def _part(self, source: str, of: str) -> Part:
        """Return a part of which a spec names the weights; those that cannot be had blame it."""
        try:
            return resolve(source, weights=self.device.type != "meta")
        except WeightsError as error:
            raise EntryError(error, of, "weights") from error

    def _attach_head(self, name: str, spec: Mapping[str, Any]) -> None:
        if more := sorted(set(spec) - {"head"}):
            raise EntryError(f"{name!r} is a head, which takes no {more[0]!r}", more[0])
        is_sketch = self.device.type == "meta"
        own, weights = weights_of(spec["head"])
        part = self._part(weights, "head") if weights else None
        if part:
            with blaming(f"head {own['kind']!r}", "head", "weights"):
                own |= HEADS[own["kind"]].describe(part.folder)  # type: ignore[operator]
        head = complete(own)
        role = role_of(head["kind"])
        if other := self.head_of(role):
            raise EntryError(f"{other!r} is a head of kind {role!r} already", "head", "kind")
        made = partial(build_head, head, self._given(head))
        built = on_meta(made) if is_sketch else made()
        if part and part.fetched:
            with (
                blaming(f"head {name!r}", "head", "weights"),
                without_values() if is_sketch else nullcontext(),
            ):
                built.load_pretrained(part.folder)  # type: ignore[operator]
        if part:
            self.config.parts[name] = part.record()
        self.config.heads[name] = head
        self.heads[name] = built.to(device=self.device, dtype=self.dtype)

    def head_of(self, role: str) -> str | None:
        """Return the name of the head that does what a kind does, None where none is attached."""
        heads = self.config.heads.items()
        return next((name for name, head in heads if role_of(head["kind"]) == role), None)

    def _given(self, head: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a head needs of the model, see `omni.heads.GIVEN`.

        Raises:
            EntryError: there is no codec, or the LLM's layers are not as wide as its tokens.
        """
        wide = self.config.text_config.get_text_config(decoder=True).hidden_size
        role = role_of(head["kind"])
        if role not in OF_SPEECH:
            return {"hidden_width": wide}
        if (name := codec_of(self.config.modalities)) is None:
            raise EntryError(f"head {head['kind']!r} speaks the codes of a codec, and none is "
                             "attached; attach one first: {encoder: {kind: codec, ...}, "
                             "projector: {kind: codes}}", "head")  # fmt: skip
        codec: Any = self.encoders[name]
        if role in OF_FRAMES and codec.code_width is None:
            raise EntryError(f"codec {name!r} makes sound of its codes itself, and has no use for "
                             f"a head {head['kind']!r}", "head", "kind")  # fmt: skip
        table: torch.Tensor = self.get_input_embeddings().weight  # type: ignore[assignment]
        if "width" in GIVEN[head["kind"]] and wide != table.shape[1]:
            raise EntryError(
                f"head {head['kind']!r} takes hidden states as wide as tokens, and the LLM's are "
                f"{wide} and {table.shape[1]}", "head", "kind",
            )  # fmt: skip
        return {"books": codec.books, "width": table.shape[1],
                "code_width": codec.code_width}  # fmt: skip

    def _build_parts(self, name: str, modality: dict[str, Any], part: Part | None) -> Any:
        """Build a modality's encoder, with its weights and checked, and its projector."""
        encoder, projector = self._build(name, modality)
        if part:
            with blaming(f"encoder {name!r}", "encoder", "weights"):
                encoder.load_pretrained(part.folder)
        check_encoder(encoder)
        if getattr(projector, "learns", True):
            self._match_embedding_scale(projector)
        return encoder, projector

    def _sketch_parts(self, name: str, modality: dict[str, Any], part: Part | None) -> Any:
        """Build them without values; of weights that are there, names and shapes are compared."""
        encoder: Any = on_meta(lambda: build_encoder(modality["encoder"]))
        projector = on_meta(lambda: self._projector(modality, encoder))
        if part and part.fetched:
            with blaming(f"encoder {name!r}", "encoder", "weights"), without_values():
                encoder.load_pretrained(part.folder)
        return encoder, projector

    def _match_embedding_scale(self, projector: nn.Module) -> None:
        """Scale the projector's last layer so that its tokens start as large as text tokens."""
        embeddings = self.get_input_embeddings().get_parameter("weight").detach()
        std = float(embeddings.std()) * self.text_scale()
        if hasattr(projector, "scale_to"):
            projector.scale_to(std)  # type: ignore[operator]
            return
        linear = [m for m in projector.modules() if isinstance(m, nn.Linear)]
        if not linear:
            raise ValueError("the projector has no nn.Linear, the last of which makes its tokens")
        last = linear[-1]
        with torch.no_grad():
            nn.init.normal_(last.weight, std=2 * std / last.in_features**0.5)
            if last.bias is not None:
                nn.init.zeros_(last.bias)

    @torch.no_grad()
    def text_scale(self) -> float:
        """Return how much longer text enters the LLM than its rows are in the table.

        1, or what the embedding module multiplies with: Gemma's with the root of the width.
        """
        embedding = self.get_input_embeddings()
        table: torch.Tensor = embedding.weight  # type: ignore[assignment]
        ids = torch.arange(min(64, len(table)), device=table.device)
        return float(embedding(ids).norm() / table[ids].norm())

    def _build(self, name: str, spec: dict[str, Any]) -> tuple[Any, Any]:
        """Build a modality's encoder and projector with random weights."""
        encoder, tables = build(lambda: build_encoder(spec["encoder"]))
        self._computed |= {f"encoders.{name}.{key}": table for key, table in tables.items()}
        projector, tables = build(lambda: self._projector(spec, encoder))
        self._computed |= {f"projectors.{name}.{key}": table for key, table in tables.items()}
        return encoder, projector

    def _build_head(self, name: str, spec: dict[str, Any]) -> nn.Module:
        """Build a head with random weights."""
        head, tables = build(lambda: build_head(spec, self._given(spec)))
        self._computed |= {f"heads.{name}.{key}": table for key, table in tables.items()}
        return head

    def _projector(self, spec: dict[str, Any], encoder: Any) -> nn.Module:
        # an LLM may look up narrower rows than its layers are wide
        table: torch.Tensor = self.get_input_embeddings().weight  # type: ignore[assignment]
        width = getattr(encoder, "books", encoder.width)
        return build_projector(spec["projector"], width, table.shape[1])
