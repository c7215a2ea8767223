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
# # Explore a snapshot
#
# Before a feature goes into a rule or a model: who is in the snapshot, what is missing, how are values spread, has
# anything moved since the last ones, and whom can the offers reach at all?
#
# It reads the work folder `SEGUE_HOME` (or `.segue`); where that is empty, a month of listeners is simulated first.

# %%
import matplotlib.pyplot as plt
import pandas as pd
from practice import practice_catalog, practice_home, practice_snapshots

from evaluation.reach import reach
from features.snapshot_drift import pair, snapshot_drift

home = practice_home()
catalog = practice_catalog(home)
snapshots = practice_snapshots(home, catalog)
snapshot = snapshots[-1]
frame = snapshot.frame()
print(f"{snapshot.id}: {snapshot.rows:,} users, {snapshot.schema.width} features; {len(snapshots)} snapshots in all")
frame.head(3)

# %% [markdown]
# ## What there is, and what is missing
#
# A missing value takes the feature's default; without one, no condition on it holds, and a guard that reads it may
# block. So a feature that is missing for many is a rule that does little.

# %%
specs = {spec.name: spec for spec in snapshot.schema.specs}
overview = pd.DataFrame(
    {
        "type": {name: str(spec.type) for name, spec in specs.items()},
        "default": {name: "" if spec.default is None else spec.default for name, spec in specs.items()},
        "missing": frame[list(specs)].isna().mean(),
        "distinct": {name: frame[name].map(str).nunique() for name in specs},
    }
).sort_values("missing", ascending=False)
overview

# %%
gaps = overview.loc[overview["missing"] > 0, "missing"][::-1]
figure, axes = plt.subplots(figsize=(6, 0.6 + 0.3 * max(len(gaps), 1)), layout="constrained")
axes.barh(gaps.index, gaps)
axes.xaxis.set_major_formatter("{x:.1%}")
axes.set_title("Share of users of whom it is not known")
plt.show()

# %% [markdown]
# ## How numbers are spread
#
# Listening is skewed: a mean says little, and a threshold in a rule is better read off the quantiles.

# %%
numbers = [name for name in ("sessions_28d", "minutes_28d", "days_since_signup") if name in specs]
numbers = numbers or [name for name, spec in specs.items() if spec.type in ("int", "float")][:3]
figure, panels = plt.subplots(1, len(numbers), figsize=(3.2 * len(numbers), 2.6), layout="constrained", squeeze=False)
for axes, name in zip(panels[0], numbers, strict=True):
    axes.hist(frame[name].dropna().astype(float), bins=30)
    axes.set_title(name, fontsize=10)
plt.show()
frame[numbers].astype(float).quantile([0.1, 0.25, 0.5, 0.75, 0.9, 0.99]).round(1)

# %% [markdown]
# ## Has anything moved?
#
# Each feature is held against its own earlier moves: what it may move is what it usually does, and what samples of this
# size would do by themselves (docs/drift.md). The same as `segue drift`.

# %%
before, after, earlier = pair(home.snapshots, None, None)
report = snapshot_drift(before, after, earlier, now=after.as_of)
moves = pd.DataFrame(
    [(one.name, one.psi, one.limit, one.basis, one.shift, one.status) for one in report.drifts],
    columns=["feature", "psi", "limit", "limit from", "shift", "status"],
).set_index("feature")
moves.head(8)

# %%
most = moves.head(12)[::-1]
figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
axes.barh(
    most.index, most["psi"] / most["limit"], color=["tab:red" if s == "drifted" else "tab:blue" for s in most["status"]]
)
axes.axvline(1, color="black", linewidth=1, linestyle="--")
axes.set_title(f"Moves since {before.id[:8]} over their limits")
plt.show()

# %% [markdown]
# ## Whom the offers reach
#
# Eligibility, invariants and guards, asked of every user of the snapshot. An offer that reaches few is either meant so
# or loses them to a clause that somebody should look at: the same as `segue catalog reach`.

# %%
surface = max(catalog.surfaces, key=lambda name: len(catalog.offers_on(name)))
reached = sorted(reach(catalog, snapshot, surface=surface), key=lambda one: one.eligible)
figure, axes = plt.subplots(figsize=(6, 0.6 + 0.25 * len(reached)), layout="constrained")
axes.barh([one.offer for one in reached], [one.eligible / one.users for one in reached])
axes.xaxis.set_major_formatter("{x:.0%}")
axes.set_title(f"Share of users who may see it on {surface}")
plt.show()

# %%
least = next((one for one in reached if one.dropped), None)
worst = max(least.dropped, key=lambda one: one.users) if least else None
if worst:
    print(f"{least.offer} reaches {least.eligible:,} of {least.users:,}.")
    print(f"It loses {worst.users:,} to: {worst.hurdle.words}")

# %% [markdown]
# ## What to conclude

# %%
assert not frame["user_id"].duplicated().any(), "a user stands twice"
assert moves.loc[list(report.drifted), "psi"].gt(moves.loc[list(report.drifted), "limit"]).all()
assert all(one.eligible + sum(drop.users for drop in one.dropped) == one.users for one in reached)

gappy = list(overview.index[overview["missing"] > 0.2])
print(f"- Use with care, missing for over a fifth: {', '.join(gappy) or 'none'}.")
print(f"- Moved beyond what is usual: {', '.join(report.drifted) or 'none'}. Ask why before training on it.")
print(f"- Too old to be used: {', '.join(report.stale) or 'none'}, as of the snapshot's own moment.")
unreached = [one.offer for one in reached if not one.eligible]
print(f"- On {surface} nobody can see: {', '.join(unreached) or 'no offer is without an audience'}.")
