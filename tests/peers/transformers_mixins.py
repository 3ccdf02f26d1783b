"""transformers' own tests of a model and a processor, run on a tiny omni model that sees and hears.

`scripts/test_peers.sh DIR` runs them out of a checkout of transformers; explained.yaml says why the
few that fail do not apply.
"""

import copy
import inspect
import unittest
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from tests.generation.test_utils import GenerationTesterMixin
from tests.test_configuration_common import ConfigTester
from tests.test_modeling_common import ModelTesterMixin, floats_tensor, ids_tensor
from transformers import ProcessorMixin

from omni import OmniConfig, OmniForConditionalGeneration, OmniProcessor
from omni.projectors import token_counts
from tests import test_processing_common as processing

VISION, AUDIO, TEXT = 4, 8, 9  # tokens of each in a row
FRAMES = 32  # audio features of a row, before the projector
WORDS = 200  # ids below are ordinary tokens
MEDIA = ("pixel_values", "input_features", "audio_frames")


class OmniModelTester:
    """What the mixins ask for: a config, and inputs with a picture and a sound in every row."""

    batch_size = 7  # no less: one mixin fills smaller batches up with words and noise
    seq_length = VISION + AUDIO + TEXT
    is_training = True
    media, padding = True, 0  # how many tokens of the rows after the first

    def __init__(self, config: OmniConfig):
        self.tokens = {name: spec["token_id"] for name, spec in config.modalities.items()}
        self.config = config.to_dict()
        text = config.text_config
        self.vocab_size, self.hidden_size = text.vocab_size, text.hidden_size
        self.num_hidden_layers = text.num_hidden_layers
        self.num_attention_heads = text.num_attention_heads

    def get_config(self) -> OmniConfig:
        config = OmniConfig.from_dict(copy.deepcopy(self.config))
        for name, token in self.tokens.items():
            config.modalities[name]["token_id"] = token
        return config

    def prepare_config_and_inputs_for_common(self) -> tuple[OmniConfig, dict[str, torch.Tensor]]:
        """Return both; random words, which spell no token that stands for something."""
        rows = self.batch_size
        ids = ids_tensor([rows, self.seq_length], WORDS)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        inputs["attention_mask"][1:, : self.padding] = 0
        if self.media:
            ids[:, :VISION] = self.tokens["vision"]
            ids[:, VISION : VISION + AUDIO] = self.tokens["audio"]
            inputs["pixel_values"] = floats_tensor([rows, 3, 48, 48])
            inputs["input_features"] = floats_tensor([rows, 80, 2 * FRAMES])
            inputs["audio_frames"] = torch.full((rows,), FRAMES)
        return self.get_config(), inputs


class OmniModelTest(GenerationTesterMixin, ModelTesterMixin, unittest.TestCase):
    """The model, with all that GenerationMixin promises."""

    all_model_classes = (OmniForConditionalGeneration,)
    additional_model_inputs = MEDIA
    _is_composite = True
    test_torch_exportable = False  # where media go is found among the ids
    omni_config: OmniConfig

    def setUp(self) -> None:
        self.model_tester = OmniModelTester(self.omni_config)
        if "resize" in self._testMethodName:  # clamps ids to a table that it made smaller
            self.model_tester.tokens = {"vision": WORDS, "audio": WORDS + 1}
        if "inputs_embeds" in self._testMethodName:  # which exclude media: they do not say where
            self.model_tester.media = False
        if "padding_free" in self._testMethodName:  # joins rows of words, without their padding
            self.model_tester.media, self.model_tester.padding = False, 2
        self.config_tester = ConfigTester(self, config_class=OmniConfig, has_text_modality=False)

    def test_config(self) -> None:
        self.config_tester.run_common_tests()

    def test_left_padding_compatibility(self) -> None:
        """Name the media in the signature of `forward`: the mixin passes what it finds there."""
        forward = OmniForConditionalGeneration.forward
        signature = inspect.signature(forward)
        *first, last = signature.parameters.values()
        media = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in MEDIA]
        named = signature.replace(parameters=[*first, *media, last])
        with patch.object(forward, "__signature__", named, create=True):
            super().test_left_padding_compatibility()

    def _prepare_for_class(self, inputs_dict: Any, model_class: Any, return_labels: bool = False):
        """Add labels as for any causal LM; the mixin looks the class up among transformers' own."""
        inputs = super()._prepare_for_class(inputs_dict, model_class)
        if return_labels:
            inputs["labels"] = torch.zeros_like(inputs["input_ids"])
        return inputs


class OmniProcessorTest(processing.ProcessorTesterMixin, unittest.TestCase):
    """The processor; media come from files made here, not from a hub."""

    processor_class = OmniProcessor
    omni_processor: OmniProcessor

    def setUp(self) -> None:
        """Take videos out of the signature: the mixin passes arrays, which tell no times."""
        signature = inspect.signature(OmniProcessor.__call__)
        others = [p for p in signature.parameters.values() if p.name != "videos"]
        fewer = signature.replace(parameters=others)
        patched = patch.object(OmniProcessor.__call__, "__signature__", fewer, create=True)
        patched.start()
        self.addCleanup(patched.stop)

    @classmethod
    def _setup_test_attributes(cls, processor: OmniProcessor) -> None:
        cls.image_token, cls.audio_token = processor.image_token, processor.audio_token

    @classmethod
    def _setup_from_components(cls) -> OmniProcessor:
        return cls.omni_processor

    @staticmethod
    def prepare_processor_dict() -> dict[str, Any]:
        return {"modalities": OmniProcessorTest.omni_processor.modalities}

    @contextmanager
    def _with_processors(self, *names: str) -> Iterator[None]:
        """Let the mixin find a processor of each medium, without which it skips."""
        processor, found = self.get_processor(), ["tokenizer", *names]
        with ExitStack() as patches:
            patches.enter_context(patch.object(self, "get_processor", return_value=processor))
            patches.enter_context(patch.object(OmniProcessor, "get_attributes", lambda: found))
            for name in names:
                patches.enter_context(patch.object(OmniProcessor, name, None, create=True))
            yield

    def test_processor_with_multiple_inputs(self) -> None:
        with self._with_processors("image_processor", "feature_extractor"):
            super().test_processor_with_multiple_inputs()

    def test_processor_text_has_no_visual(self) -> None:
        with self._with_processors("image_processor"):
            super().test_processor_text_has_no_visual()

    def _test_apply_chat_template(self, modality: str, *args: Any) -> None:
        """As above, but not for videos: they are images here. Our default returns a dict."""
        if modality == "video":
            return super()._test_apply_chat_template(modality, *args)
        apply = OmniProcessor.apply_chat_template

        def ids_alone(*args: Any, return_dict: bool = False, **kwargs: Any) -> Any:
            return apply(*args, return_dict=return_dict, **kwargs)

        with (
            self._with_processors(args[-2]),
            patch.object(OmniProcessor, "apply_chat_template", ids_alone),
        ):
            return super()._test_apply_chat_template(modality, *args)

    @staticmethod
    def does_processor_return_mm_offsets(processor_class: type, method_name: str) -> bool:
        """Compare with ProcessorMixin, which need not be the first of the bases."""
        return getattr(processor_class, method_name) is not getattr(ProcessorMixin, method_name)


def test_every_explained_test_exists(stale: set[str]) -> None:
    assert not stale


@pytest.fixture(scope="module", autouse=True)
def parts(omni_pair: Any) -> None:
    """Give the classes their model and processor."""
    OmniModelTest.omni_config, OmniProcessorTest.omni_processor = omni_pair[0].config, omni_pair[1]
    vision, audio = (omni_pair[0].config.modalities[name] for name in ("vision", "audio"))
    assert token_counts(vision["projector"], np.array([(3, 3)])) == [VISION]
    assert token_counts(audio["projector"], np.array([(FRAMES,)])) == [AUDIO]


@pytest.fixture(scope="module", autouse=True)
def media(make_picture: Any, make_sound: Any, tmp_path_factory: Any) -> Iterator[None]:
    """Give the mixin files instead of addresses."""
    folder: Path = tmp_path_factory.mktemp("media")
    (folder / "picture.png").write_bytes(make_picture(1))
    (folder / "sound.wav").write_bytes(make_sound(1))
    picture, sound = str(folder / "picture.png"), str(folder / "sound.wav")
    files = {"images": [picture] * 2, "audio": [sound] * 2, "videos": []}
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(processing, "MODALITY_INPUT_DATA", files)
        patches.setattr(processing, "url_to_local_path", lambda url: picture)
        yield
