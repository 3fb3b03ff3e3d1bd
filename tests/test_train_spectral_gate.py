"""The script that fits the shipped gate: the same result each time, for the bank of today."""

import numpy as np
import pytest
import safetensors

from benchmarks import train_spectral_gate as script
from mixlin.experts import BankMatrices, SpectralWeights
from mixlin.experts.gating import BacktestGate, backtest_scores
from mixlin.experts.spectral_gate import GATE_FILE


def about(path):
    with safetensors.safe_open(path, framework="numpy") as file:
        return file.metadata()


def test_the_small_case_gives_its_kept_result(capsys):
    assert script.main(["--check"]) == 0
    assert "same experts selected on 360 of 360 contexts" in capsys.readouterr().out


def test_the_check_finds_a_gate_that_is_another(tmp_path, monkeypatch, capsys):
    kept = SpectralWeights.load(script.KEPT)
    weight = kept.weight.copy()
    weight[0] += 1e-5 * np.abs(weight).max()
    moved = SpectralWeights(weight, kept.bias, kept.names, kept.frequencies)
    moved.save(tmp_path / "moved.safetensors")
    monkeypatch.setattr(script, "KEPT", tmp_path / "moved.safetensors")
    assert script.main(["--check"]) == 1
    assert "weight differs by" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "setting"), [(GATE_FILE, script.Setting()), (script.KEPT, script.SMALL)]
)
def test_kept_gates_were_made_for_the_bank_and_the_back_test_of_today(path, setting):
    """Otherwise run benchmarks/train_spectral_gate.py, and with --keep."""
    assert about(path)["made_for"] == setting.digest


def test_rows_are_the_scores_of_back_tests():
    setting = script.Setting(seed=5, per_family=2, lengths=(60,), longest_wave=64)
    spectra, losses = script.rows_of(setting)
    assert spectra.shape == (18, len(setting.frequencies))
    series = script.make_families(5, 18, 60).data
    x = (series - series.mean(axis=1, keepdims=True)) / series.std(axis=1, keepdims=True)
    gate = BacktestGate()
    folds, seen = gate.folds(60, 96), np.ones(60, dtype=bool)
    matrices = BankMatrices(setting.bank)
    scores = backtest_scores(matrices, folds, gate.power, gate.floor, x[:1], seen)
    np.testing.assert_allclose(losses[:1], scores, rtol=1e-9)


def test_the_shipped_gate_imitates_the_back_test():
    """On series that it was not fitted to, it is nearer to the back-test than the priors are."""
    setting = script.Setting(seed=99, per_family=4, lengths=(128, 1024))
    spectra, losses = script.rows_of(setting)
    weights = SpectralWeights.load(GATE_FILE)
    priors = np.array(setting.bank.log_priors)

    def distance(logits):
        targets = priors - 17.0 * np.log(losses)
        shares = np.exp(targets - targets.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        top = logits.max(axis=1, keepdims=True)
        normal = logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
        return -(shares * normal).sum(axis=1).mean()

    found = distance(spectra @ weights.weight.T + weights.bias)
    assert found < distance(np.broadcast_to(priors, losses.shape)) - 1.0
