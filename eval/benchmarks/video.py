"""Benchmarks of video understanding. A video is shown as the processor shows videos."""

from typing import Any

from ..lmms.benchmark import Benchmark
from .luck import NO_DRAW, without_luck
from .share import Doc, column, letter_at, letter_of, number_of, share

MVBENCH = (
    "action_sequence", "moving_count", "action_prediction", "episodic_reasoning",
    "action_antonym", "action_count", "scene_transition", "object_shuffle", "object_existence",
    "fine_grained_pose", "unexpected_action", "moving_direction", "state_change",
    "object_interaction", "character_order", "action_localization", "counterfactual_inference",
    "fine_grained_action", "moving_attribute", "egocentric_navigation",
)  # fmt: skip


FRAMES = "shown as the model's own processor shows a video: frames, and sound if it hears"
ANSWER, CANDIDATE = column("answer"), letter_of("candidates")
EGOSCHEMA, PERCEPTION = letter_at("answer"), letter_at("answer_id")


def egoschema_wrong(doc: Doc) -> dict[str, Any]:
    """What the official code returns for a wrong answer."""
    return {"submission": {}, "score": {"pred": -1, "ground_truth": doc["answer"]}}


def mvbench(kind: str) -> Benchmark:
    """One of the twenty tasks; the official number leaves out empty answers, this does not."""
    return Benchmark(
        f"mvbench_{kind}", f"MVBench {kind.replace('_', ' ')}", f"mvbench_{kind}", "mvbench",
        "train", 200,
        share(
            "mvbench_accuracy", CANDIDATE, points=lambda found: found["score"], scale=1.0,
            options=number_of("candidates"), answered_only=True,
        ),
        CANDIDATE, 16, "official", aliases=(f"MVBench/{kind}",), video=column("video"),
        rule=f"{FRAMES}; an empty answer is wrong, where the official mean leaves it out",
    )  # fmt: skip


VIDEO = (
    *(mvbench(kind) for kind in MVBENCH),
    Benchmark(
        "videomme", "Video-MME (no subtitles)", "videomme", "videomme", "test", 2700,
        share(
            "videomme_perception_score", ANSWER, points=lambda found: found["score"], scale=1.0,
            category=column("duration"), group=column("videoID"),
            options=number_of("options"),
        ),
        ANSWER, 16, "official", aliases=("Video-MME",), video=column("videoID"), rule=FRAMES,
    ),
    Benchmark(
        "egoschema_subset", "EgoSchema subset", "egoschema_subset", "egoschema", "test", 500,
        share(
            "score", EGOSCHEMA, options=number_of("option"),
            points=lambda found: float(str(found["pred"]) == str(found["ground_truth"])),
        ),
        EGOSCHEMA, 16, "official", aliases=("egoschema/Subset",),
        video=column("video_idx"), rule=f"{FRAMES}; {NO_DRAW}",
        overrides=without_luck(
            "egoschema", "egoschema_process_results_generation", egoschema_wrong
        ),
    ),
    Benchmark(
        "perceptiontest_val", "Perception Test val", "perceptiontest_val_mc",
        "perceptiontest/val", "validation", 19140,
        share(
            "accuracy", PERCEPTION, points=lambda found: found["correct"],
            category=column("area"), group=column("video_name"),
            options=number_of("options"),
        ),
        PERCEPTION, 16, "official", aliases=("PerceptionTest_Val/mc_question_val",),
        video=column("video_name"), rule=FRAMES,
    ),
)  # fmt: skip
