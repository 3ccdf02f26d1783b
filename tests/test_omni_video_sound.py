"""The sound track of a video is heard between its frames, each second with what is seen then."""

import io
import logging
import re
from typing import Any

import av
import numpy as np
import pytest

from data_shards.bench.zoo_videos import Sounding, filmed, pitch, tones
from data_shards.index.index import Index
from data_shards.plan.plan import Plan, PlanConfig
from data_shards.read.entry import read_shard
from data_shards.read.loader import Loader
from data_shards.shards.sample import Sample
from data_shards.shards.write import write_shards
from omni import OmniProcessor
from omni.encoders import encoder_class
from omni.media.decode import MediaError
from omni.media.facts import facts_of
from omni.media.track import RATE
from omni.media.video import VideoLimits, load_sound, scan_video
from omni.processing.messages import MessageError, assistant, user, video

META = {"source": "tones", "license": "Apache-2.0", "schema": 1}
LOSSLESS = Sounding("flac", RATE, seconds=1.2)
SOUNDS = {  # of 1.2 s of pictures
    "none": None, "as long": LOSSLESS, "longer": LOSSLESS._replace(seconds=2.1),
    "shorter": LOSSLESS._replace(seconds=0.3), "late": LOSSLESS._replace(start=0.7),
    "of another rate": Sounding("aac", 44_100, "stereo"),
}  # fmt: skip


def clip(sound: Sounding | None) -> bytes:
    return filmed("matroska", "libx264", 10, sound=sound)


def other(processor, **options) -> OmniProcessor:
    return OmniProcessor(
        processor.tokenizer, processor.modalities, processor.chat_template, options
    )


def test_each_frame_is_followed_by_the_sound_of_its_time(omni_pair, monkeypatch):
    model, processor = omni_pair
    heard, own = [], encoder_class(processor.modalities["audio"]["encoder"])
    plain = own.preprocess
    monkeypatch.setattr(own, "preprocess", staticmethod(
        lambda config, wave: heard.append(wave) or plain(config, wave)))  # fmt: skip
    part = video(clip(LOSSLESS), fps=5)  # 6 frames of 0.2 s
    encoded = processor.encode([user(part), assistant("grey")])
    text = processor.tokenizer.decode(encoded.input_ids)
    runs = re.findall(r"([\d.]+s)((?:<\|vision\|>)+)((?:<\|audio\|>)+)", text)
    assert [stamp for stamp, *_ in runs] == ["0.1s", "0.3s", "0.5s", "0.7s", "0.9s", "1.1s"]
    assert "".join("".join(run) for run in runs) in text
    assert [len(wave) for wave in heard] == [3200] * 6
    assert np.abs(np.concatenate(heard) - tones(1.2, RATE)).max() < 1e-3
    assert model(**processor.pack([encoded])).loss.isfinite()


@pytest.mark.parametrize("sound", SOUNDS)
@pytest.mark.parametrize("options", [{}, {"sound": False}, {"max_tokens": 4}], ids=str)
def test_the_index_knows_what_a_video_with_sound_costs(omni_pair, tmp_path, sound, options):
    processor = other(omni_pair[1], **options)
    parts = [video("vid0.mkv"), video("vid0.mkv", fps=3.5), video("vid0.mkv", fps=9, sound=True),
             video("vid0.mkv", fps=4, sound=False)]  # fmt: skip
    data = {"vid0.mkv": clip(SOUNDS[sound])}
    write_shards((Sample([user("a", part), assistant("b")], data, META | {}) for part in parts),
                 tmp_path / "set")  # fmt: skip
    index = Index.open(tmp_path / "set")
    lengths = index.lengths(processor)
    encoded = [processor.encode(sample.conversation())
               for sample in read_shard(tmp_path / "set" / "train-000000.tar")]  # fmt: skip
    assert lengths.tokens.tolist() == [len(e) for e in encoded]
    config = processor.modalities["audio"]["encoder"]
    frames = [sum(n for i in e.media.get("audio", []) for (n,) in encoder_class(config).grids(
        config, i)) for e in encoded]  # fmt: skip
    assert lengths.frames.tolist() == frames
    assert not frames[3] and bool(frames[2]) == (sound != "none")
    assert bool(frames[0]) == (sound != "none" and options.get("sound", True))
    assert index.sounding() == (0 if sound == "none" else 3)


def test_sound_stays_where_it_is_in_time():
    """In seconds of the clip: a track that begins late is not heard from the first frame on."""
    data = clip(SOUNDS["late"])
    facts = facts_of("video", data)
    assert (facts.sound_start, facts.sound_end) == pytest.approx((0.7, 1.9), abs=0.01)
    wave = load_sound(data, scan_video(data))
    assert len(wave) == pytest.approx(1.2 * RATE, abs=RATE // 50)
    assert abs(pitch(wave[RATE // 12 : RATE // 6], RATE) - 400) < 30


def test_frames_are_capped_by_their_tokens_too(omni_pair):
    _, processor = omni_pair
    talk = [user(video(clip(None), fps=10))]
    one = processor.media_lengths("image", np.array([(96, 64)], [("width", int), ("height", int)]))
    each = int(one[0][0])
    for cap, frames in ((None, 12), (each * 12, 12), (each * 5 + each - 1, 5), (1, 1)):
        capped = other(processor, max_tokens=cap)
        assert len(capped.encode(talk, generation=True).media["vision"]) == frames
        assert (capped.fingerprint == processor.fingerprint) == (cap is None)


def test_a_video_that_cannot_be_heard_is_logged_once(make_model, specs, tmp_path, caplog):
    processor = make_model(vision=specs.vision)[1]
    data, quiet = clip(LOSSLESS), clip(None)
    with caplog.at_level(logging.WARNING):
        processor.encode([user(video(quiet), video(data, sound=False))], generation=True)
        assert not caplog.records
        for _ in range(3):
            encoded = processor.encode([user(video(data))], generation=True)
    assert [r.getMessage()[:17] for r in caplog.records] == ["a video has sound"]
    assert [*encoded.media] == ["vision"]
    caplog.clear()
    write_shards((Sample([user(video("vid0.mkv")), assistant("b")], {"vid0.mkv": one}, META | {})
                  for one in (data, quiet, data)), tmp_path / "set")  # fmt: skip
    index = Index.open(tmp_path / "set")
    plan = Plan(
        {"s": index}, PlanConfig({"s": 1.0}, max_samples=1), {"s": index.lengths(processor)}
    )
    Loader(plan, processor)
    assert [r.getMessage() for r in caplog.records if "sound" in r.getMessage()] == [
        "s: 2 videos have sound, which no modality reads: their frames are shown alone"
    ]


def test_broken_sound_says_how_to_do_without(omni_pair):
    data = bytearray(filmed("mov", "mjpeg", 10, sound=Sounding("aac", RATE, seconds=3.0)))
    scan = scan_video(bytes(data))
    wave = load_sound(bytes(data), scan)
    # control: as it was made, all is heard
    assert len(wave) == round((scan.sound[1] - scan.sound[0]) * RATE)
    with av.open(io.BytesIO(bytes(data)), "r") as container:
        packets: list[Any] = [p for p in container.demux(audio=0) if p.size]
        for packet in packets[len(packets) // 3 :]:
            data[packet.pos : packet.pos + packet.size] = bytes([255]) * packet.size
    with pytest.raises(MediaError, match=r"sound of the video: .*; show it without: sound=False"):
        omni_pair[1].encode([user(video(bytes(data)))], generation=True)
    part = video(bytes(data), sound=False)
    assert len(omni_pair[1].encode([user(part)], generation=True).media["vision"]) == 1


def test_sound_is_under_the_limits():
    long = clip(LOSSLESS._replace(seconds=4.0))
    with pytest.raises(MediaError, match="4 s of audio is over the limit of 2 s"):
        scan_video(long, VideoLimits(max_seconds=2.0))


@pytest.mark.parametrize("options", [{"sound": 1}, {"max_tokens": 0}, {"frames": 3}], ids=str)
def test_wrong_options_of_a_processor_are_refused(omni_pair, options):
    with pytest.raises(MessageError, match=next(iter(options))):
        other(omni_pair[1], **options)
