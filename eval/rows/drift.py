"""How far training moved the text behaviour of the LLM that it started from."""

from typing import Any

from omni.processing.messages import assistant, user

PAIRS = (
    ("What is the capital of Mexico?", "The capital of Mexico is Mexico City."),
    ("What colour is the sky on a clear day?", "The sky is blue."),
    ("How many days are in a week?", "There are seven days in a week."),
    ("What do bees make?", "Bees make honey."),
    ("Name a fruit that is yellow.", "A banana."),
    ("What is two plus two?", "Two plus two is four."),
    ("Which animal says meow?", "A cat says meow."),
    ("What do fish breathe with?", "Fish breathe with gills."),
    ("What is ice made of?", "Ice is frozen water."),
    ("Which planet do we live on?", "We live on Earth."),
    ("What do you use to cut paper?", "You use scissors to cut paper."),
    ("Who wrote Romeo and Juliet?", "William Shakespeare wrote Romeo and Juliet."),
    ("What is the largest ocean?", "The Pacific Ocean is the largest ocean."),
    ("How many legs does a spider have?", "A spider has eight legs."),
    ("What gas do plants take in?", "Plants take in carbon dioxide."),
    ("What is the first month of the year?", "January is the first month of the year."),
    ("Write a short greeting.", "Hello! How can I help you today?"),
    ("What is the boiling point of water?", "Water boils at 100 degrees Celsius."),
    ("Which language is spoken in Brazil?", "Portuguese is spoken in Brazil."),
    ("What is a baby dog called?", "A baby dog is called a puppy."),
)


def text_drift(model: Any, parent_language_model: Any, processor: Any) -> float:
    """Mean absolute change of the log-probability of an answer token over fixed text pairs.

    0 where the language model never moved. Both models see the same ids; where one has more
    vocabulary rows than the other, probabilities are taken over the rows they share.
    """
    import torch

    total, tokens = 0.0, 0
    vocabulary = min(_rows(model.language_model), _rows(parent_language_model))
    for question, reply in PAIRS:
        encoded = processor.encode([user(question), assistant(reply)])
        ours = _answer_logprobs(model.language_model, encoded, vocabulary)
        theirs = _answer_logprobs(parent_language_model, encoded, vocabulary)
        total += float((ours - theirs).abs().sum())
        tokens += len(ours)
    if not tokens:
        raise ValueError(
            "no labelled token in any of the fixed pairs: is this the right processor?"
        )
    return total / tokens if torch.isfinite(torch.tensor(total)) else float("nan")


def _rows(language_model: Any) -> int:
    return language_model.get_output_embeddings().weight.shape[0]


def _answer_logprobs(language_model: Any, encoded: Any, vocabulary: int) -> Any:
    """Log-probabilities (answer tokens,) of the labelled tokens, in float32."""
    import torch

    device = next(language_model.parameters()).device
    was_training = language_model.training
    language_model.eval()
    with torch.inference_mode():
        logits = language_model(input_ids=encoded.input_ids[None].to(device)).logits[0].cpu()
    language_model.train(was_training)
    targets = encoded.labels[1:]
    labelled = targets >= 0
    logprobs = logits[:-1, :vocabulary].float().log_softmax(-1)[labelled]
    return logprobs.gather(1, targets[labelled][:, None])[:, 0]
