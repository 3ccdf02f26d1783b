"""What transformers, its Trainer and PEFT ask of a model, they get."""

import pytest
import torch
from transformers import Trainer, TrainingArguments

from omni import OmniForConditionalGeneration
from omni.model.head import IGNORE_INDEX, find_labels
from omni.processing.messages import assistant, image, user
from omni.processing.processor import PlaceholderError

peft = pytest.importorskip("peft")


@pytest.fixture(scope="module")
def rows(omni_pair, talks):
    """Hold a packed row of three documents, and these by themselves."""
    _, processor = omni_pair
    encoded = [processor.encode(t) for t in talks[:3]]
    return processor.pack(encoded), [processor.pack([e]) for e in encoded]


def test_tuples_are_returned_where_they_are_asked_for(omni_pair, rows):
    model, _ = omni_pair
    batch, _ = rows
    plain = {k: v for k, v in batch.items() if k != "label_positions"}
    loss, logits, *_ = model(**plain, return_dict=False)
    output = model(**plain)
    assert loss.equal(output.loss)
    assert logits.equal(output.logits)
    (logits, *_) = model(**{k: v for k, v in plain.items() if k != "labels"}, return_dict=False)
    torch.testing.assert_close(logits, output.logits, atol=1e-5, rtol=1e-4)


def test_hidden_states_come_with_labels_and_without(omni_pair, rows):
    model, _ = omni_pair
    batch, _ = rows
    layers = 1 + model.config.get_text_config().num_hidden_layers
    labelled = model(**batch, output_hidden_states=True).hidden_states
    del (batch := dict(batch))["labels"]
    bare = model(**batch, output_hidden_states=True).hidden_states
    assert len(labelled) == len(bare) == layers
    for one, other in zip(labelled, bare, strict=True):
        torch.testing.assert_close(one, other)


def _gradients(model, **batch):
    model.zero_grad()
    model(**batch).loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def test_gradient_checkpointing_changes_no_gradient(make_model, specs, talks):
    model, processor = make_model(vision=specs.vision, audio=specs.audio)
    batch = processor.pack([processor.encode(t) for t in talks])
    model.train()
    expected = _gradients(model, **batch)
    model.gradient_checkpointing_enable()
    assert model.is_gradient_checkpointing
    found = _gradients(model, **batch)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient)


def test_the_table_grows_and_is_saved(make_model, specs, talks, tmp_path):
    model, processor = make_model(vision=specs.vision, audio=specs.audio)
    batch = processor.pack([processor.encode(talks[3])])
    del batch["labels"], batch["label_positions"]
    before = model(**batch).logits
    table = model.resize_token_embeddings(300)
    assert model.get_input_embeddings() is table
    after = model(**batch).logits
    assert after.shape[-1] == 300
    assert after[..., : before.shape[-1]].equal(before)
    model.save_pretrained(tmp_path)
    again = OmniForConditionalGeneration.from_pretrained(tmp_path)
    assert again(**batch).logits.equal(after)


@pytest.mark.parametrize("labelled", [True, False])
def test_documents_may_start_at_any_position(omni_pair, rows, labelled):
    model, _ = omni_pair
    batch, alone = rows
    shifted = batch | {"position_ids": batch["position_ids"] + 3}
    if labelled:  # of each document, in turn
        found = model(**shifted).token_losses
        expected = torch.cat([
            model(**row | {"position_ids": row["position_ids"] + 3}).token_losses for row in alone
        ])  # fmt: skip
    else:
        bare = {k: v for k, v in shifted.items() if k != "labels"}
        found = model(**bare).logits[0]
        expected = torch.cat([
            model(**{k: v for k, v in row.items() if k != "labels"}).logits[0] for row in alone
        ])  # fmt: skip
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_a_mask_of_ones_leaves_packed_documents_apart(omni_pair, rows):
    model, _ = omni_pair
    batch, _ = rows
    ones = torch.ones_like(batch["input_ids"])
    assert model(**batch, attention_mask=ones).loss.equal(model(**batch).loss)
    ones[0, 0] = 0
    with pytest.raises(ValueError, match="leave the mask and the padding of packed rows out"):
        model(**batch, attention_mask=ones)


def test_rows_of_documents_are_each_apart(make_model):
    """Two packed rows in a batch, as some collators make them."""
    model, processor = make_model()
    encoded = [processor.encode([user(q), assistant(a)]) for q, a in ("ab", "cd")]
    one, other = processor.pack(encoded), processor.pack(encoded[::-1])
    expected = torch.cat([model(row["input_ids"], position_ids=row["position_ids"]).logits
                          for row in (one, other)])  # fmt: skip
    ids, positions = (torch.cat([one[n], other[n]]) for n in ("input_ids", "position_ids"))
    for isolates in (True, False):
        model.config.isolates = isolates
        found = model(ids, position_ids=positions).logits
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_peft_trains_and_generates_as_a_causal_lm(make_model, specs, talks, make_picture):
    model, processor = make_model(vision=specs.vision, audio=specs.audio)
    asked = processor.apply_chat_template(
        [user(image(make_picture(1)), "?")], tokenize=True, add_generation_prompt=True
    )
    options = {"max_new_tokens": 3, "do_sample": False, "pad_token_id": 0}
    before = model.generate(**asked, **options)
    config = peft.LoraConfig(r=2, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"],
                             exclude_modules="encoders.*")  # fmt: skip
    wrapped = peft.get_peft_model(model, config)
    assert wrapped.generate(**asked, **options).tolist() == before.tolist()
    batch = processor.pack([processor.encode(t) for t in talks])
    wrapped(**batch).loss.backward()
    trained = [n for n, p in wrapped.named_parameters() if p.grad is not None]
    assert trained
    assert all("lora" in n for n in trained)


class _Rows(torch.utils.data.IterableDataset):
    def __init__(self, rows):
        self.rows = rows

    def __iter__(self):
        return iter(self.rows)


def _trainer(model, rows, folder, **options):
    arguments = TrainingArguments(
        str(folder), max_steps=2, per_device_train_batch_size=1, report_to=[], use_cpu=True,
        remove_unused_columns=False, save_strategy="no", learning_rate=0.0, logging_steps=1,
        disable_tqdm=True, **options,
    )  # fmt: skip
    dataset = _Rows(rows)
    return Trainer(model, arguments, train_dataset=dataset, data_collator=lambda rows: rows[0])


@pytest.mark.parametrize("dispatch", [None, False])
def test_the_stock_trainer_trains_every_label_of_a_stream(
    make_model, specs, talks, tmp_path, dispatch
):
    """By default it cuts each tensor of a streamed batch to as many rows as the first has."""
    model, processor = make_model(vision=specs.vision, audio=specs.audio)
    one = processor.pack([processor.encode(t) for t in talks[:2]])  # of one picture
    more = {} if dispatch is None else {"accelerator_config": {"dispatch_batches": dispatch}}
    rows = [one, one if dispatch is None else processor.pack([processor.encode(talks[4])])]
    trainer = _trainer(model, rows, tmp_path, **more)
    trainer.train()
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert logged == pytest.approx([model(**row).loss.item() for row in rows], abs=1e-3)


def test_the_stock_trainer_cannot_cut_media_off_in_silence(make_model, specs, talks, tmp_path):
    model, processor = make_model(vision=specs.vision, audio=specs.audio)
    several = processor.pack([processor.encode(talks[4])])
    with pytest.raises(PlaceholderError, match="dispatch_batches"):
        _trainer(model, [several, several], tmp_path).train()


def test_labels_of_a_padded_batch_give_loss_and_logits(omni_pair, talks):
    """What a collator of transformers or TRL makes: padded rows, labels, no positions."""
    model, processor = omni_pair
    encoded = [processor.encode(t) for t in talks[1:4]]
    batch = processor.pad(encoded)
    labels = torch.full_like(batch["input_ids"], IGNORE_INDEX)
    for row, sample in enumerate(encoded):
        labels[row, -len(sample) :] = sample.labels
    output = model(**batch, labels=labels)
    assert output.logits.shape[:2] == labels.shape
    alone = [model(**processor.pack([e])).token_losses for e in encoded]
    torch.testing.assert_close(output.token_losses, torch.cat(alone), atol=1e-5, rtol=1e-4)
    lean = model(**batch, labels=labels, label_positions=find_labels(labels))
    assert lean.logits is None
    assert lean.loss.item() == pytest.approx(output.loss.item(), abs=1e-6)
