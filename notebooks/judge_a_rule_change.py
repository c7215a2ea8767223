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
# # Judge a rule change
#
# Three months of premium for nothing are dear, so a product manager wants to keep that trial for whoever listens a
# lot: 20 sessions a month. Who loses it, what do they see instead, and what does it cost or save? All of this can be
# known before anybody sees the change, from recorded decisions: as by `segue catalog reach` and `segue whatif`.
#
# It reads the work folder `SEGUE_HOME` (or `.segue`); where that is empty, a month of listeners and their traffic is
# simulated first. Nothing is published.

# %%
from functools import partial

import matplotlib.pyplot as plt
import pandas as pd
from practice import practice_catalog, practice_home, practice_snapshots, practice_traffic

from decisioning.catalog_tests import run_tests
from decisioning.catalog_yaml import check_catalog
from evaluation.reach import reach
from evaluation.whatif.asking import ask
from evaluation.whatif.proposals import Proposal
from evaluation.whatif.thresholds import read_threshold
from stores.catalog_files import read_catalog_files
from workbench import catalog_folder, release_of

home = practice_home()
catalog = practice_catalog(home)
snapshot = practice_snapshots(home, catalog)[-1]
release = practice_traffic(home, catalog)
print(f"In use: {release.id}")

# %% [markdown]
# ## The change
#
# As text, as a person would edit it. Checked as any catalog is: errors, warnings, and the catalog's own tests. For a
# change of your own, read another folder: `draft = read_catalog_files(Path("my-catalog"))`.

# %%
OFFER, OLD = "premium_trial_3m", "      audience: engaged_free\n"
NEW = OLD + "      sessions_28d: {min: 20}\n"
files = dict(read_catalog_files(catalog_folder(home, None)))
file = next((name for name, text in files.items() if OLD in text.decode()), None)
if file is None:
    raise SystemExit(f"This catalog has no {OLD!r}: set OFFER, OLD and NEW to a change of yours.")
draft = {**files, file: files[file].replace(OLD.encode(), NEW.encode())}
changed, warnings = check_catalog(draft, now=snapshot.as_of)
failures = run_tests(changed)
print(f"{file}:\n{OLD}becomes\n{NEW}")
print(f"{len(warnings)} warnings, {len(failures)} of the catalog's own tests fail")
for failure in failures:
    print(failure)

# %% [markdown]
# ## Whom it reaches
#
# Of all users of the snapshot, on each surface. Reach is who *may* see it: whether it wins there is the next question.

# %%
before, after = ({(one.surface, one.offer): one for one in reach(each, snapshot)} for each in (catalog, changed))
reached = pd.DataFrame(
    [
        (surface, before[surface, OFFER].eligible, after[surface, OFFER].eligible)
        for surface, offer in before
        if offer == OFFER
    ],
    columns=["surface", "before", "after"],
).set_index("surface")
others = [key for key in before if key[1] != OFFER and before[key].eligible != after[key].eligible]
print(f"The reach of {len(others)} other offers changes.")
reached

# %%
axes = (reached / snapshot.rows).plot.barh(figsize=(6, 2.4), color=["lightgrey", "tab:blue"])
axes.xaxis.set_major_formatter("{x:.0%}")
axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
axes.set_title(f"Users who may see {OFFER}")
axes.figure.set_layout_engine("constrained")
plt.show()

# %% [markdown]
# ## What would have been decided
#
# Every recorded decision again, under the draft, with the facts and the draw of its moment: which first offers change,
# and who gives way to whom. `changed_share` is of drawn decisions; `expected` shares count probabilities, and so have
# less noise.

# %%
base = None if release.id.startswith("catalog-") else release.id
found = ask(home.logs, Proposal(partial(release_of, home), base, draft), last="all")
offers = pd.DataFrame(found["offers"]).set_index("offer")
print(f"{found['decisions']:,} decisions of {found['users']:,} users:")
print(f"{found['changed_share']:.1%} get another first offer,")
print(f"{found['left_with_nothing_share']:.1%} are left with nothing")
pd.DataFrame(found["flows"]).head(6)

# %%
share = (offers["expected_after_share"] - offers["expected_before_share"]).sort_values()
share = share[share.abs() > 0.0005]
figure, axes = plt.subplots(figsize=(6, 0.9 + 0.3 * len(share)), layout="constrained")
axes.barh(share.index, share, color=["tab:red" if one < 0 else "tab:green" for one in share])
axes.axvline(0, color="black", linewidth=1)
axes.xaxis.set_major_formatter("{x:+.1%}")
axes.set_title("Change of the share of first places")
plt.show()

# %% [markdown]
# ## What it is worth
#
# The difference of value a decision, paired, with a 95 % interval: from the decisions old enough for conversions to
# have come, as far as their exploration covers what the draft would show. `ess` is how many decisions that amounts to.

# %%
value = found["value"]
print({name: value[name] for name in ("difference", "low", "high", "relative", "decisions", "ess", "note")})
segments = pd.DataFrame(
    [
        (
            f"{one['feature']} {one['value']}",
            one["decisions"],
            one["changed_share"],
            one["worth"]["difference"],
            one["worth"]["note"],
        )
        for one in found["segments"]
    ],
    columns=["segment", "decisions", "changed", "difference", "note"],
).set_index("segment")
segments.sort_values("changed", ascending=False).head(8)

# %% [markdown]
# ## What to conclude
#
# As thresholds, so that the same can guard a pull request: `segue whatif --catalog DRAFT --fail-if 'nothing>1%'`.

# %%
assert not others, "a change of one offer's eligibility moved the reach of another"
assert (reached["after"] <= reached["before"]).all(), "a tighter rule won somebody"
assert found["changed"] == sum(one["decisions"] for one in found["flows"]) or len(found["flows"]) == 20
assert abs(offers["expected_after_share"].sum() - offers["expected_before_share"].sum()) < 1e-6

tripped = []
for text in ("nothing>1%", "changed>20%", "value<-5%"):
    verdict = read_threshold(text, catalog.offers.keys()).verdict(found)
    tripped += [text] if verdict.tripped else []
    print(f"- {verdict}")
if value["note"]:
    print(f"- What it is worth is not shown ({value['note']}): try it on a part of the users, as an experiment.")
elif value["low"] > 0 or value["high"] < 0:
    print(f"- It is surely worth {'more' if value['low'] > 0 else 'less'} than what is in use.")
else:
    print(f"- Not sure either way: {value['low']:+.3f} to {value['high']:+.3f} {value['currency']} a decision.")
against = [*tripped, *([f"{len(failures)} of the catalog's own tests fail"] if failures else [])]
print("- Verdict:", f"not as it is ({', '.join(against)})" if against else "nothing forbids it")
