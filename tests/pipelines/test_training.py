"""Training one segment: nothing else changes, bad numbers stop it, a killed run ends the same."""

import errno
import itertools
import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from dataclasses import replace

import pytest
import torch
from tiny import SHAPE, VOCABULARY, make_base

from peer_cl import PeerModel
from peer_cl.errors import DamageError, InputError
from peer_cl.pool import ExpertPool, tensors_sha256
from pipelines import callbacks
from pipelines import features as features_module
from pipelines.batches import Row
from pipelines.fact_rows import VARIED
from pipelines.features import Features, read_features
from pipelines.rewordings import REWORDED
from pipelines.settings import TrainingSettings
from pipelines.training import train_segment
from pipelines.training_rows import planned_steps

SETTINGS = TrainingSettings(
    shape=SHAPE, text_passes=6.0, tokens_per_step=64, precision="fp32", validations=0
)


def make_rows(num=24):
    draw = torch.Generator().manual_seed(3)
    return [
        Row(f"{n:064x}", "text", (0, *torch.randint(2, VOCABULARY, (11,), generator=draw).tolist()))
        for n in range(num)
    ]


def train(folder, *, host_layers=(1, 2, 3), settings=SETTINGS, base=None, older=(), **options):
    """Train a segment on random rows and return it with its model."""
    model = PeerModel(base or make_base("llama"), host_layers=host_layers)
    rows = make_rows()
    features, _ = read_features(model.attachment, rows, folder=folder, tokens_per_step=128)
    torch.manual_seed(0)
    trained = train_segment(
        model.attachment,
        model.new_segment(settings.shape),
        older=list(older),
        rows=rows,
        validation=options.pop("validation", []),
        features=options.pop("features", features),
        settings=settings,
        end_id=1,
        **options,
    )
    return trained, model


def test_training_lowers_the_loss_and_changes_neither_base_nor_older_segments(tmp_path):
    base = make_base("llama")
    before = tensors_sha256(base.state_dict())
    first, _ = train(tmp_path, base=base)
    older = tensors_sha256(first.segment.state_dict())
    second, _ = train(tmp_path, base=base, older=[first.segment])
    assert first.losses[-1][1] < first.losses[0][1] - 0.2
    assert second.losses[0][1] < first.losses[0][1] - 0.3  # the older segment is on
    assert tensors_sha256(base.state_dict()) == before
    assert tensors_sha256(first.segment.state_dict()) == older
    assert all(parameter.requires_grad for parameter in base.parameters())


def test_the_same_run_gives_the_same_bits(tmp_path):
    one, _ = train(tmp_path)
    two, _ = train(tmp_path)
    other, _ = train(tmp_path, settings=replace(SETTINGS, seed=1))
    assert one.segment.sha256() == two.segment.sha256()
    assert one.segment.sha256() != other.segment.sha256()


def test_cached_states_at_the_tap_train_the_same_as_the_trunk_run_again(tmp_path):
    cached, _ = train(tmp_path)
    none = Features((), (), None, ())
    again, _ = train(tmp_path, features=none)
    for ours, theirs in zip(cached.segment.parameters(), again.segment.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)


def test_states_for_which_the_disk_has_no_room_are_told(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    model = PeerModel(make_base("llama"), host_layers=(1, 2, 3))
    with pytest.raises(InputError, match=r"bytes left, and what the base makes .* takes [0-9,]+"):
        read_features(model.attachment, make_rows(), folder=tmp_path, tokens_per_step=128)


def test_each_run_has_states_of_its_own_and_leaves_no_file(tmp_path):
    model, rows = PeerModel(make_base("llama"), host_layers=(1, 2, 3)), make_rows()
    first, _ = read_features(model.attachment, rows, folder=tmp_path, tokens_per_step=128)
    before = first.tap_states([0, 5], 12)
    read_features(model.attachment, rows[::-1], folder=tmp_path, tokens_per_step=128)
    assert torch.equal(first.tap_states([0, 5], 12), before)
    assert not list(tmp_path.iterdir()), "also after a kill nothing is left"


def test_of_a_large_corpus_every_nth_token_speaks_for_its_signature(tmp_path, monkeypatch):
    model, rows = PeerModel(make_base("llama"), host_layers=(1, 2, 3)), make_rows()
    _, every = read_features(model.attachment, rows, folder=tmp_path, tokens_per_step=128)
    monkeypatch.setattr(features_module, "MOST_SIGNATURE_TOKENS", 100)
    _, some = read_features(model.attachment, rows, folder=tmp_path, tokens_per_step=128)
    assert sum(map(len, some)) <= 100 + len(rows) < sum(map(len, every))
    for whole, thinned in zip(every, some, strict=True):
        assert torch.equal(thinned, whole[::3])


def test_training_that_changes_the_base_is_refused(tmp_path):
    base = make_base("llama")

    def meddle(step, total, loss):
        base.lm_head.weight.data[0, 0] += 1e-3

    with pytest.raises(DamageError, match="training changed the base"):
        train(tmp_path, base=base, progress=meddle)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    model = PeerModel(make_base("llama"), host_layers=(1, 2, 3))
    poisoned = tmp_path / "poisoned"
    poisoned.mkdir()
    features, _ = read_features(model.attachment, make_rows(), folder=poisoned, tokens_per_step=128)
    features.states_XD[features.offsets[7]] = float("nan")
    with pytest.raises(DamageError, match=r"the loss became nan at step \d+"):
        train(tmp_path, features=features)


def test_weights_that_are_not_finite_stop_the_run(tmp_path):
    model = PeerModel(make_base("llama"), host_layers=(1, 2, 3))
    segment = model.new_segment(SHAPE)
    check = callbacks.FiniteCheck(segment)
    check.on_fit_end()
    segment.layer(3).experts.up_ND.data[2, 1] = float("inf")
    with pytest.raises(DamageError, match=r"layers\.3\.experts\.up_ND"):
        check.on_fit_end()


def test_no_checkpoint_holds_weights_that_are_not_finite(tmp_path, monkeypatch):
    """A run that goes on from its last step trains no more: it would take them as they are."""
    monkeypatch.setattr(callbacks, "CHECKPOINT_EVERY", 1)
    checkpoint = tmp_path / "run.safetensors"
    write = callbacks.StepCheckpoint.on_train_batch_end

    def poisoned(self, trainer, module, *rest):
        if trainer.global_step == 3:
            module.segment.layer(3).experts.up_ND.data[2, 1] = float("nan")
        write(self, trainer, module, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(callbacks.StepCheckpoint, "on_train_batch_end", poisoned)
        with pytest.raises(DamageError, match=r"layers\.3\.experts\.up_ND holds values"):
            train(tmp_path, checkpoint=checkpoint)
    resumed, _ = train(tmp_path, checkpoint=checkpoint)
    whole, _ = train(tmp_path)
    assert resumed.segment.sha256() == whole.segment.sha256()


def test_validations_are_recorded_and_stop_a_run_that_gets_worse(tmp_path):
    trained, _ = train(tmp_path, settings=watched(), validation=STRANGE)
    seen = [value for _, _, value in trained.losses if value is not None]
    assert len(seen) >= 2
    assert seen[-1] > min(seen)
    patient, _ = train(tmp_path, settings=replace(watched(), patience=99), validation=STRANGE)
    assert len(trained.losses) == trained.num_steps < patient.num_steps


def watched(**changes):
    """Settings of a run that is validated twelve times and soon stops."""
    return replace(
        SETTINGS, text_passes=30.0, validations=12, patience=1, row_learning_rate=3e-2, **changes
    )


STRANGE = [Row("f" * 64, "text", (0, *range(60, 90)))]


class Killed(BaseException):
    """Raised in the middle of a run, as a kill would end it."""


@pytest.mark.parametrize(
    ("values", "is_worse"),
    [
        ([], False),
        ([3.0], False),
        ([3.0, 3.1], False),
        ([3.0, 3.1, 3.2], True),
        ([3.0, 3.1, 2.9], False),
        ([3.0, 2.9, 3.1, 3.0], True),
    ],
)
def test_a_run_stops_after_as_many_worse_validations_as_patience_says(values, is_worse):
    record = callbacks.LossRecord([(n, 4.0, value) for n, value in enumerate(values, 1)], 0)
    assert callbacks.ValidationStop([], 1, 2, record, 0).is_worse() is is_worse


def test_every_token_of_a_validation_counts_alike_whatever_pass_reads_it(tmp_path):
    unseen = [*make_rows(6), Row("e" * 64, "text", (0, 7, 8))]
    settings = replace(SETTINGS, validations=1, upper_share=1.0)
    trained, model = train(tmp_path, settings=settings, validation=unseen)
    model.add_pool("own", ExpertPool("own", [trained.segment]))
    with torch.no_grad():
        nats = sum(
            -float(model.score(torch.tensor([row.ids]), domains=["own"]).log_probs_QBT[1].sum())
            for row in unseen
        )
    (found,) = [value for _, _, value in trained.losses if value is not None]
    assert found == pytest.approx(nats / sum(len(row.ids) - 1 for row in unseen), rel=1e-5)


@pytest.mark.parametrize("at", [7, 13, 22])
def test_a_run_that_goes_on_is_validated_and_stopped_as_one_that_was_never_killed(
    tmp_path, monkeypatch, capsys, at
):
    monkeypatch.setattr(callbacks, "CHECKPOINT_EVERY", 5)
    settings = watched()
    whole, _ = train(tmp_path, settings=settings, validation=STRANGE)
    checkpoint = tmp_path / "run.safetensors"

    def die(step, total, loss):
        if step == at:
            raise Killed

    with pytest.raises(Killed):
        train(tmp_path, settings=settings, validation=STRANGE, checkpoint=checkpoint, progress=die)
    assert "going on" not in capsys.readouterr().err
    resumed, _ = train(tmp_path, settings=settings, validation=STRANGE, checkpoint=checkpoint)
    assert f"going on from step {at // 5 * 5} of " in capsys.readouterr().err
    assert resumed.losses == whole.losses
    assert resumed.num_steps == whole.num_steps
    assert resumed.segment.sha256() == whole.segment.sha256()


def test_a_run_that_had_stopped_when_it_was_killed_does_not_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(callbacks, "CHECKPOINT_EVERY", 1)
    checkpoint = tmp_path / "run.safetensors"
    options = {"settings": watched(), "validation": STRANGE, "checkpoint": checkpoint}
    whole, _ = train(tmp_path, **options)
    again, _ = train(tmp_path, **options)
    assert again.segment.sha256() == whole.segment.sha256()
    assert again.losses == whole.losses


@pytest.mark.parametrize("harm", ["cut short", "one byte"])
def test_a_damaged_checkpoint_is_told_and_the_run_begins_anew(tmp_path, monkeypatch, capsys, harm):
    monkeypatch.setattr(callbacks, "CHECKPOINT_EVERY", 5)
    checkpoint = tmp_path / "run.safetensors"
    whole, _ = train(tmp_path, checkpoint=checkpoint)
    data = bytearray(checkpoint.read_bytes())
    if harm == "one byte":
        data[-9] ^= 1
    else:
        del data[len(data) // 2 :]
    checkpoint.write_bytes(data)
    steps = []
    again, _ = train(tmp_path, checkpoint=checkpoint, progress=lambda step, *_: steps.append(step))
    assert steps[0] == 1
    assert again.segment.sha256() == whole.segment.sha256()
    assert f"the checkpoint {checkpoint}" in capsys.readouterr().err


@pytest.fixture
def heeding_ctrl_c():
    """Tests that a shell started in the background ignore the signal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeding_ctrl_c")
def test_ctrl_c_is_a_keyboard_interrupt_and_stays_one(tmp_path):
    handler = signal.getsignal(signal.SIGINT)

    def press(step, total, loss):
        if step == 3:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, progress=press)
    assert signal.getsignal(signal.SIGINT) is handler


def test_the_upper_third_keeps_a_share_of_what_it_learned(tmp_path):
    def trained(share):
        settings = replace(SETTINGS, upper_share=share)
        return train(tmp_path, host_layers=(0, 1, 3), settings=settings)[0]

    whole, kept = trained(1.0), trained(0.5)
    assert kept.losses == whole.losses
    for number, (one, other) in enumerate(
        zip(whole.segment.peer_layers(), kept.segment.peer_layers(), strict=True)
    ):
        factor = 0.5 if number == 2 else 1.0
        assert one.experts.up_ND.any()
        assert torch.equal(other.experts.up_ND, factor * one.experts.up_ND)
        assert torch.equal(other.experts.down_ND, one.experts.down_ND)
        assert torch.equal(other.query.weight, one.query.weight)


def test_a_small_corpus_is_read_more_often_in_all_its_kinds_alike():
    rows = [Row("a", "text", (0, 1, 1)), Row("b", "fact", (0, 1)), Row("c", VARIED, (0, 1))]
    settings = replace(SETTINGS, tokens_per_step=16, fact_passes=4.0)
    once = planned_steps(rows, replace(settings, least_steps=1))
    steps = planned_steps(rows, replace(settings, least_steps=40))
    assert 0 < len(once) < 40 <= len(steps) < 50
    before, after = (Counter(itertools.chain(*some)) for some in (once, steps))
    assert before == {0: 6, 1: 2, 2: 1}
    raised = [after[number] / before[number] for number in before]
    assert max(raised) < min(raised) + 1
    wide = planned_steps(rows, replace(settings, least_steps=40, tokens_per_step=4096))
    assert 40 <= len(wide) < 50
    assert sum(map(len, wide)) < 1.2 * 40 * len(rows), "no step holds many copies of a row"


def test_a_run_that_is_long_enough_is_planned_as_without_a_least():
    rows = make_rows()
    as_told = planned_steps(rows, replace(SETTINGS, least_steps=1))
    for least in (2, len(as_told)):
        assert planned_steps(rows, replace(SETTINGS, least_steps=least)) == as_told
    assert len(planned_steps(rows, replace(SETTINGS, least_steps=len(as_told) + 1))) > len(as_told)
    never = replace(SETTINGS, reworded_passes=0.0, least_steps=5)
    assert planned_steps([Row("a", REWORDED, (0, 1))], never) == []


def test_a_run_without_a_step_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"text_passes 1e-05 .* read none of 24 rows"):
        train(tmp_path, settings=replace(SETTINGS, text_passes=1e-5))


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_with_the_same_bits(tmp_path, monkeypatch):
    """A real process dies by SIGKILL in the middle; the next one ends as if nothing had been."""
    monkeypatch.setattr(callbacks, "CHECKPOINT_EVERY", 5)
    whole, _ = train(tmp_path)
    checkpoint = tmp_path / "run.safetensors"
    script = textwrap.dedent(
        f"""
        import os, signal, sys
        from pathlib import Path
        sys.path[:0] = {sys.path!r}
        from pipelines import callbacks
        callbacks.CHECKPOINT_EVERY = 5
        import importlib.util
        spec = importlib.util.spec_from_file_location("training_tests", {__file__!r})
        tests = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(tests)

        def die(step, total, loss):
            if step == 13:
                os.kill(os.getpid(), signal.SIGKILL)

        tests.train(
            Path({str(tmp_path)!r}), checkpoint=Path({str(checkpoint)!r}), progress=die
        )
        """
    )
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert killed.returncode == -9, killed.stderr.decode()
    assert checkpoint.is_file()
    steps = []
    resumed, _ = train(
        tmp_path, checkpoint=checkpoint, progress=lambda step, total, loss: steps.append(step)
    )
    assert steps[0] == 11
    assert resumed.segment.sha256() == whole.segment.sha256()
    assert resumed.losses == whole.losses


def test_settings_that_cannot_be_trained_with_are_refused():
    with pytest.raises(InputError, match="precision must be"):
        TrainingSettings(precision="fp8")
    with pytest.raises(InputError, match="text_passes must be positive, not 0"):
        TrainingSettings(text_passes=0)
