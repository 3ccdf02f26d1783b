"""The model: embed -> encode -> project -> scatter -> decode -> loss."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.models.auto import modeling_auto

from .attention import PACKED_SDPA, documents, packed_mask
from .auto import MODELS, SavesCode
from .buffers import build
from .config import OmniConfig
from .encoders import build_encoder, check_encoder, encoder_class
from .entry import EntryError
from .feature_cache import FeatureCache
from .head import decoder_of, find_labels, logits_at, token_losses
from .isolation import check_embeddings, isolates, one_by_one
from .processor import PlaceholderError
from .projectors import build_projector
from .sketch import on_meta, without_values
from .spec import blaming, read_spec
from .weights import Part, resolve

if TYPE_CHECKING:
    from .processor import OmniProcessor


@dataclass
class OmniOutput(CausalLMOutputWithPast):
    """With labels: their mean loss, no logits, and the loss of each in reading order, (N,)."""

    token_losses: torch.Tensor | None = None


class OmniForConditionalGeneration(SavesCode, PreTrainedModel, GenerationMixin):
    """A text LLM plus a dictionary of modalities, each an encoder and a projector.

    Media tensors are keyword arguments named by the encoders (`pixel_values`,
    `input_features` + `audio_frames`), all items of the batch in reading order.
    """

    config_class = OmniConfig
    config: OmniConfig
    main_input_name = "input_ids"
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True

    def __init__(self, config: OmniConfig):
        super().__init__(config)
        self.language_model = _packing(AutoModelForCausalLM.from_config(config.text_config))
        self.encoders = nn.ModuleDict()
        self.projectors = nn.ModuleDict()
        self._computed: dict[str, torch.Tensor] = {}  # buffers to be kept while weights are loaded
        for name, spec in config.modalities.items():
            self.encoders[name], self.projectors[name] = self._build(name, spec)
        self.feature_cache: FeatureCache | None = None  # set it to run frozen encoders once
        self.post_init()

    def _build(self, name: str, spec: dict[str, Any]) -> tuple[Any, Any]:
        """Build a modality's encoder and projector with random weights."""
        encoder, tables = build(lambda: build_encoder(spec["encoder"]))
        self._computed |= {f"encoders.{name}.{key}": table for key, table in tables.items()}
        projector, tables = build(lambda: self._projector(spec, encoder))
        self._computed |= {f"projectors.{name}.{key}": table for key, table in tables.items()}
        return encoder, projector

    def _projector(self, spec: dict[str, Any], encoder: Any) -> nn.Module:
        # an LLM may look up narrower rows than its layers are wide
        table: torch.Tensor = self.get_input_embeddings().weight  # type: ignore[assignment]
        return build_projector(spec["projector"], encoder.width, table.shape[1])

    def _init_weights(self, module: nn.Module) -> None:
        """Keep the initialisation that every part's own constructor chose."""

    @torch.no_grad()
    def initialize_weights(self) -> None:
        """Fill what `from_pretrained` has emptied as no file holds it, at its end."""
        super().initialize_weights()
        for name, value in self._computed.items():
            self.get_buffer(name).copy_(value)
        self._computed = {}

    @classmethod
    def from_text(cls, spec: str) -> "OmniForConditionalGeneration":
        """Make a text-only omni model of a pretrained LLM; `spec` as in `omni.weights.resolve`.

        Raises:
            UnfitError: media cannot stand among the LLM's tokens.
        """
        part = resolve(spec)
        language_model = AutoModelForCausalLM.from_pretrained(part.folder, dtype=torch.float32)
        with torch.device("meta"):  # its random LLM is replaced: spend no memory on it
            model = cls(OmniConfig(language_model.config, parts={"text": part.record()}))
        model.language_model = _packing(language_model)
        model.generation_config = language_model.generation_config
        check_embeddings(model.language_model.eval())
        model.config.isolates = isolates(model.eval())
        return model

    @classmethod
    def sketch(cls, spec: str) -> "OmniForConditionalGeneration":
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
                text = AutoModelForCausalLM.from_config(config).config
                config = OmniConfig(text, parts={"text": part.record()})
            modalities, config.modalities = config.modalities, {}
            model = cls(config)
        for name, modality in modalities.items():
            encoder, projector = model._sketch_parts(name, modality, None)
            model.encoders[name], model.projectors[name] = encoder.to("meta"), projector.to("meta")
        config.modalities = modalities
        return model

    def attach(self, name: str, spec: dict[str, Any], processor: "OmniProcessor") -> None:
        """Add a modality: an encoder (pretrained when the spec names weights) and a projector.

        Nothing else changes; a text-only prompt keeps its logits to the bit.

        Args:
            name: what the modality is called, e.g. "vision".
            spec: `{"encoder": {"kind": ..., "weights": ...}, "projector": {"kind": ...}}`.
            processor: gains the modality's placeholder and preprocessing.

        Raises:
            EntryError: the name is taken, a kind is not registered, or the encoder is none whose
                features this project knows to place; the model is as it was.
            WeightsError: the encoder's weights cannot be had.
        """
        if name in self.config.modalities:
            raise EntryError(f"modality {name!r} is attached already")
        if not name or "." in name or hasattr(self.encoders, name):
            raise EntryError(f"a modality cannot be called {name!r}; choose another name")
        read = read_spec(name, spec)
        is_sketch = self.device.type == "meta"
        part = resolve(read.weights, weights=not is_sketch) if read.weights else None
        describe = partial(
            encoder_class({"kind": read.kind}).describe, part and part.folder, **read.options
        )
        with blaming(f"encoder {read.kind!r}", "encoder"):
            described = {"kind": read.kind, **(on_meta(describe) if is_sketch else describe())}
        modality = {"encoder": described, "projector": read.projector}
        make = self._sketch_parts if is_sketch else self._build_parts
        with blaming(f"encoder {read.kind!r}", "encoder"):
            encoder, projector = make(name, modality, part)
        if part:
            self.config.parts[name] = part.record()
        modality["token_id"] = processor.add_placeholder(name)
        self.config.modalities[name] = processor.modalities[name] = modality
        self.end_with(processor.ends[0])
        # not the whole model: an LLM in half precision has tables in single precision
        self.encoders[name] = encoder.to(device=self.device, dtype=self.dtype)
        self.projectors[name] = projector.to(device=self.device, dtype=self.dtype)

    def _build_parts(self, name: str, modality: dict[str, Any], part: Part | None) -> Any:
        """Build a modality's encoder, with its weights and checked, and its projector."""
        encoder, projector = self._build(name, modality)
        if part:
            with blaming(f"encoder {name!r}", "encoder", "weights"):
                encoder.load_pretrained(part.folder)
        check_encoder(encoder)
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

    def end_with(self, ids: Sequence[int]) -> None:
        """Let `generate` stop at these tokens as well."""
        known = self.generation_config.eos_token_id
        known = known if isinstance(known, list) else [] if known is None else [known]
        ends = [*known, *(i for i in ids if i not in known)]
        self.generation_config.eos_token_id = ends if len(ends) != 1 else ends[0]

    def _match_embedding_scale(self, projector: nn.Module) -> None:
        """Scale the projector's last layer so that its tokens start as large as text tokens."""
        *_, last = (m for m in projector.modules() if isinstance(m, nn.Linear))
        std = float(self.get_input_embeddings().get_parameter("weight").std()) * self.text_scale()
        with torch.no_grad():
            nn.init.normal_(last.weight, std=2 * std / last.in_features**0.5)
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

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def get_output_embeddings(self) -> nn.Module:
        return self.language_model.get_output_embeddings()

    def get_decoder(self) -> nn.Module:
        return decoder_of(self.language_model)

    def train(self, mode: bool = True) -> "OmniForConditionalGeneration":
        """Switch the mode; frozen parts stay in evaluation mode (their batch norms are frozen)."""
        super().train(mode)
        for part in (self.language_model, *self.encoders.values(), *self.projectors.values()):
            part.train(mode and trains(part))
        return self

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        label_positions: torch.Tensor | None = None,
        num_items_in_batch: int | torch.Tensor | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Run the model.

        Args:
            input_ids: (B, T); placeholders mark where media features go.
            attention_mask: (B, T); leave it out for packed rows.
            position_ids: (B, T); restarting positions isolate packed documents.
            labels: (B, T), `IGNORE_INDEX` where there is none. With labels the result has the
                losses and no logits, which never exist all at once: leave labels out for those.
            label_positions: (N,), those in the flattened labels before a label; default: found.
            num_items_in_batch: divides the summed loss; default: the labels of this batch.
            logits_to_keep: without labels: how many last positions (0: all), or which ones.
            kwargs: media tensors, and `NAME_positions` (M,), those of a modality's placeholders in
                the flattened ids, by default found; everything else goes to the LLM.

        Raises:
            PlaceholderError: placeholder count differs from feature count.
        """
        embeds = self.embed(input_ids, kwargs)  # (B, T, D)
        if labels is None:
            if attention_mask is None and kwargs.get("past_key_values") is None:
                # an empty cache would keep transformers from isolating packed documents
                kwargs.setdefault("use_cache", position_ids is None)
                if position_ids is not None and len(embeds) == 1 and not kwargs["use_cache"]:
                    return self._logits(embeds, position_ids, logits_to_keep, kwargs)
            return self.language_model(
                inputs_embeds=embeds, attention_mask=attention_mask, position_ids=position_ids,
                logits_to_keep=logits_to_keep, **kwargs,
            )  # fmt: skip
        decoded = self.decode(embeds, attention_mask, position_ids, **kwargs)
        where = find_labels(labels) if label_positions is None else label_positions
        targets = labels.flatten().index_select(0, where + 1)  # each predicts the token after it
        losses = token_losses(self.language_model, decoded, where, targets)
        count = len(where) if num_items_in_batch is None else num_items_in_batch
        return OmniOutput(losses.sum() / count, token_losses=losses.detach())

    def decode(
        self,
        embeds: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Run the LLM without its head and cache: (B, T, D) -> its decoder's output."""
        kwargs.pop("use_cache", None)
        if self._runs_one_by_one(embeds, attention_mask, position_ids):
            return one_by_one(self.get_decoder(), embeds, position_ids, **kwargs)  # type: ignore[arg-type]
        if self.language_model.config._attn_implementation == PACKED_SDPA:
            kwargs["documents"] = documents(position_ids)
            if attention_mask is None:
                attention_mask = packed_mask(self.language_model.config, position_ids)
        return self.get_decoder()(
            inputs_embeds=embeds, attention_mask=attention_mask, position_ids=position_ids,
            use_cache=False, **kwargs,
        )  # fmt: skip

    def _logits(
        self, embeds: torch.Tensor, position_ids: torch.Tensor, keep: Any, kwargs: dict[str, Any]
    ) -> OmniOutput:
        """Return a packed row's logits: not every LLM hands positions on to its decoder."""
        decoded = self.decode(embeds, position_ids=position_ids, **kwargs)
        hidden = decoded.last_hidden_state[0, slice(-keep, None) if isinstance(keep, int) else keep]
        return OmniOutput(
            logits=logits_at(self.language_model, decoded, hidden)[None],
            hidden_states=decoded.get("hidden_states"), attentions=decoded.get("attentions"),
        )  # fmt: skip

    def _runs_one_by_one(self, embeds: Any, attention_mask: Any, position_ids: Any) -> bool:
        packed = attention_mask is None and position_ids is not None and len(embeds) == 1
        return packed and not self.config.isolates

    def embed(self, input_ids: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
        """Look up text, encode media (taken out of `inputs`), scatter: (B, T) -> (B, T, D)."""
        masks = {n: input_ids == m["token_id"] for n, m in self.config.modalities.items()}
        text_ids = input_ids
        for mask in masks.values():
            text_ids = text_ids.masked_fill(mask, 0)  # placeholders have no row in the table
        embeds = self.get_input_embeddings()(text_ids)
        for name, mask in masks.items():
            names = encoder_class(self.config.modalities[name]["encoder"]).inputs
            media = [inputs.pop(n, None) for n in names]
            where = inputs.pop(f"{name}_positions", None)
            if where is None:
                where = mask.flatten().nonzero()[:, 0]
            if media[0] is None:
                self._check_count(name, len(where), 0)
                embeds = embeds + self.anchor(name)
                continue
            features = self.encode(name, *media).to(embeds.dtype)
            self._check_count(name, len(where), len(features))
            embeds = embeds.flatten(0, 1).index_copy(0, where, features).view_as(embeds)
        return embeds

    def encode(self, name: str, *media: torch.Tensor) -> torch.Tensor:
        """Turn one modality's media tensors into LLM tokens, all items joined: (sum L, D)."""
        encoder, projector = self.encoders[name], self.projectors[name]
        trained = trains(encoder)
        media = (media[0].to(self.dtype), *media[1:])
        with torch.set_grad_enabled(trained and torch.is_grad_enabled()):
            if self.feature_cache and not trained:
                features = self.feature_cache(encoder, list(media))
            else:
                features = encoder(*media)
        tokens = projector(features)  # (N, L, D)
        if len(media) == 1:
            return tokens.flatten(0, 1)
        concat = self.config.modalities[name]["projector"]["concat"]
        # lengths that lie on the CPU spare the wait for a GPU
        rows = [torch.arange(-(-frames // concat)) + tokens.shape[1] * item
                for item, frames in enumerate(media[1].tolist())]  # fmt: skip
        real = torch.cat(rows).to(tokens.device, non_blocking=True)
        return tokens.flatten(0, 1).index_select(0, real)

    def anchor(self, name: str) -> torch.Tensor | float:
        """Tie an absent modality into the graph with weight zero, so that no rank waits for it."""
        if not (self.training and torch.is_grad_enabled()):
            return 0.0
        parts = (*self.encoders[name].parameters(), *self.projectors[name].parameters())
        return sum((0.0 * p.flatten()[0] for p in parts if p.requires_grad), 0.0)

    def _check_count(self, name: str, placeholders: int, features: int) -> None:
        if placeholders != features:
            raise PlaceholderError(
                f"{placeholders} {name} placeholders in input_ids for {features} {name} features: "
                "make both with OmniProcessor, and pass every tensor it returns"
            )

    def prepare_inputs_for_generation(self, input_ids: torch.Tensor, **kwargs: Any) -> dict:
        """Pass media with the prompt only; later steps find them in the cache."""
        media = {n: kwargs.pop(n) for n in self._media_inputs() if n in kwargs}
        first = kwargs.get("is_first_iteration", False) or not kwargs.get("use_cache", True)
        inputs = super().prepare_inputs_for_generation(input_ids, **kwargs)
        return inputs | media if first else inputs

    def _validate_model_kwargs(self, model_kwargs: dict[str, Any]) -> None:
        """Let `generate` accept media and a cache, which the signature of `forward` cannot name."""
        known = [*self._media_inputs(), "past_key_values"]
        super()._validate_model_kwargs({k: v for k, v in model_kwargs.items() if k not in known})

    def _media_inputs(self) -> list[str]:
        specs = self.config.modalities.values()
        return [n for m in specs for n in encoder_class(m["encoder"]).inputs]


for _name in MODELS:
    getattr(modeling_auto, _name).register(OmniConfig, OmniForConditionalGeneration)


def trains(module: nn.Module) -> bool:
    """Tell whether any parameter does."""
    return any(p.requires_grad for p in module.parameters())


def _packing(language_model: Any) -> Any:
    """Let an LLM that uses SDPA run packed documents one by one; other kernels stay as chosen."""
    if language_model.config._attn_implementation == "sdpa":
        language_model.set_attn_implementation(PACKED_SDPA)
    return language_model


def load_text_tokenizer(spec: str) -> Any:
    """Load the tokenizer that belongs to a text LLM given as in `omni.weights.resolve`."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(Path(resolve(spec, weights=False).folder))
