# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Train, and read the evidence
#
# Is a model worth shipping? This trains one on the recorded decisions, and reads what was found out about it before
# anybody is asked to believe it: its value against the best single offer, how much personalisation it could justify,
# whether its probabilities come true, and what the promotion gate would say. Training registers a challenger in MLflow;
# nothing is promoted.
#
# It reads the work folder `SEGUE_HOME` (or `.segue`); where that is empty, a month of listeners is simulated first.

# %%
import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from practice import SEED, practice_catalog, practice_home

from evaluation.values.worth import worth
from models import artifact
from stores.registry import Registry
from training.promote import gate
from training.train import EVIDENCE, train

home = practice_home()
catalog = practice_catalog(home)
result = train(home, catalog, model=catalog.models[0], seed=SEED)
metrics = result.metrics
print(f"{result.model}/{result.version}: {metrics['learner']} on {metrics['decisions']:,} matured decisions")
print(
    f"of {metrics['users']:,} users with {metrics['conversions']:,} conversions; {metrics['immature']:,} are too young"
)

# %% [markdown]
# ## What each policy is worth
#
# Estimates from the log by the doubly robust method, cross-fitted: nobody is judged by a model that saw them. Read the
# **difference to the best single offer**, with its interval, rather than the values: it is paired, and so much surer.
# A note says where the log can't support an estimate: it has no interval then.

# %%
values = pd.DataFrame(metrics["policy_values"])
main = values[(values["outcome"] == metrics["objective"]) & (values["estimator"] == "dr")].set_index("policy")
main[["value", "low", "high", "diff", "diff_low", "diff_high", "ess", "note", "diff_note"]]

# %%
shown = main[main["low"].notna()][::-1]
figure, axes = plt.subplots(figsize=(6.5, 2.4), layout="constrained")
half = (shown["high"] - shown["low"]) / 2
axes.errorbar(shown["value"], range(len(shown)), xerr=half, fmt="o", capsize=3)
axes.set_yticks(range(len(shown)), shown.index)
axes.margins(y=0.2)
axes.set_title(f"{metrics['objective']} per decision, 95 % intervals")
plt.show()

# %% [markdown]
# ## How far to personalise
#
# What is served is m + λ (s − m): the offer's mean, and a part λ of what the learner says beyond it. λ is the least
# that does as well as the best within one standard error; 0 is the best single offer for everybody.

# %%
gains = pd.DataFrame(metrics["gains"])
figure, axes = plt.subplots(figsize=(5, 2.6), layout="constrained")
axes.errorbar(gains["shrinkage"], gains["gain"], yerr=gains["error"], fmt="o-", capsize=3)
axes.axhline(0, color="grey", linewidth=1)
axes.axvline(metrics["shrinkage"], color="tab:red", linestyle="--", label=f"served: λ = {metrics['shrinkage']:g}")
axes.set_xlabel("λ")
axes.set_title("Gain over the best single offer ± one standard error")
axes.legend(frameon=False)
plt.show()
print(metrics["says"])

# %% [markdown]
# ## Do its probabilities come true?
#
# Each point is a tenth of the decisions. `ece` is the average distance from the diagonal; `ece_by_chance` what a
# perfect model would have on so few decisions.

# %%
bins = pd.DataFrame(metrics["reliability"]["learner"]["bins"])
figure, axes = plt.subplots(figsize=(3.6, 3.4), layout="constrained")
error = np.abs(bins[["low", "high"]].to_numpy().T - bins["observed"].to_numpy())
axes.errorbar(bins["predicted"], bins["observed"], yerr=error, fmt="o", capsize=3)
top = float(bins[["predicted", "high"]].max().max())
axes.plot([0, top], [0, top], color="grey", linewidth=1)
axes.set_xlabel("predicted")
axes.set_ylabel("converted")
plt.show()
print(f"ECE {metrics['ece']:.4f}, by chance alone {metrics['ece_by_chance']:.4f}; AUC {metrics['auc']:.3f}")

# %% [markdown]
# ## Is the method right here?
#
# Two checks on the method itself. What the log says of its own policy must be its plain mean. And where the history is
# simulated, the true value of showing any eligible offer at random is known: its interval should hold it.

# %%
controls = pd.DataFrame(metrics["controls"])
print(controls[["what", "truth", "value", "low", "high", "held"]].to_string(index=False))

truth_file = home.data / "truth.parquet"
if truth_file.is_file():
    decisions = pd.read_parquet(home.data / "decisions.parquet")
    judged = decisions[decisions["at"] <= pd.Timestamp(metrics["until"], unit="s", tz="UTC")]
    truth = pd.read_parquet(truth_file).set_index("decision_id").loc[judged["decision_id"]]
    net = pd.Series({name: catalog.offers[name].score.net for name in truth.columns if name in catalog.offers})
    true_random = float((truth.fillna(0)[net.index] * net).sum(axis=1).div(truth.notna().sum(axis=1)).mean())
    low, value, high, note = main.loc["random", ["low", "value", "high", "note"]]
    print(f"random is truly worth {true_random:.3f}; estimated {value:.3f},", end=" ")
    if note:
        print(f"without an interval: {note}")
    else:
        found = "inside" if low <= true_random <= high else "outside, as one interval in twenty is"
        print(f"from {low:.3f} to {high:.3f}: {found}")

# %% [markdown]
# ## What the gate would say
#
# Line by line, as `segue promote` would judge this version as a first model. "Not shown" is no pass: it says that the
# evidence is not there.

# %%
files = Registry(home.mlflow_uri, home.artifacts).files(result.model, result.version)
evidence = json.loads(files.pop(EVIDENCE))
lines = gate(catalog, artifact.load(files), evidence)
for line in lines:
    print(line)

# %% [markdown]
# ## What to conclude

# %%
assert main.loc["best_single_offer", "diff"] == 0, "the reference differs from itself"
assert np.isfinite(main["value"].astype(float)).all()
assert 0 <= metrics["ece"] <= 1

found = worth(metrics["policy_values"], metrics["objective"])
if metrics["shrinkage"] == 0:
    print("- It stays at the best single offer: this log shows no gain from personalising surely enough.")
else:
    print(f"- It personalises (λ = {metrics['shrinkage']:g}), for {found.difference:+.3f} a decision by cross-fitting.")
if found and found.note:
    print(f"- But {found.note}: gather more decisions before making much of any of this.")
print(f"- {metrics['immature']:,} decisions will mature; with them the intervals shrink. Train again then.")
print(f"- The gate: {sum(line.passed for line in lines)} of {len(lines)} lines pass or stand aside.")
print(f"- The whole report, with segments and uplift curves: {home.path / 'report.html'}")
