"""The keys of the catalog's language, by what they stand in: one table for the checker, the schema and the tests."""

from collections.abc import Mapping

NAMED = (
    *("features", "audiences", "groups", "surfaces", "offers", "guards", "invariants", "suppress", "caps", "budgets"),
    *("quiet_hours", "exclusive", "levers", "context_weights", "holdouts", "experiments"),
)
"""Sections of things by name; several files may each hold a part."""
RULES = ("guards", "invariants", "suppress", "caps", "budgets", "quiet_hours", "exclusive")
SINGLE = ("currency", "lever_bounds", "arbitration", "ablations", "exploration")
"""Sections that stand in one file."""
SECTIONS = (*NAMED, *SINGLE, "tests")

SCOPED = ("only", "except")

KEYS: Mapping[str, tuple[str, ...]] = {
    "features": ("type", "values", "default", "max_age", "if_missing", "from", "unit", "counts"),
    "groups": ("converts_on", "within"),
    "surfaces": (
        *("slots", "fallback", "min_score", "min_p_convert", "deadline"),
        *("allow_nothing", "max_per_group", "diversity", "sticky"),
    ),
    "offers": ("owner", "group", "surfaces", "live", "score", "attributes", "eligible", "creative", "priority"),
    "offers.live": ("from", "until"),
    "offers.score": ("model", "value", "cost", "prior"),
    "offers.creative": ("key", "locales", "fallback_locale"),
    "guards": ("require", "block_if", *SCOPED),
    "invariants": ("when", "never"),
    "scope": ("offer", "group", "surface"),
    "suppress": ("after", "same", "for", *SCOPED),
    "caps": ("max", "per", "by", "counts", *SCOPED),
    "budgets": ("offers", "impressions", "from", "until", "pace", "hard"),
    "quiet_hours": ("surfaces", "from", "to", "timezone"),
    "exclusive": ("offers", "for"),
    "levers": (*SCOPED, "times", "from", "until", "owner", "why"),
    "lever_bounds": ("min", "max"),
    "context_weights": (*SCOPED, "when", "times", "owner", "why"),
    "arbitration": ("order", "tie_break"),
    "holdouts": ("percent", "salt", "show", "surfaces"),
    "experiments": ("layer", "audience", "percent", "starts_at", "arms"),
    "experiments.arms": ("percent", "set"),
    "ablations": ("percent", "factors"),
    "exploration": ("uniform", "challenger"),
    "tests": ("name", "given", "on", "expect"),
    "tests.given": ("history", "now"),
    "tests.expect": ("never", "eligible", "because"),
}
"""By section, or by section and key where a key holds a mapping of its own. `given` takes features besides."""
