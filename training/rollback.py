"""Back to the release before. In a module of its own: whoever needs it waits for nothing that trains or judges."""

from decisioning.errors import UserError
from stores.home import Home
from stores.registry import Registry
from stores.releases import ReleaseStore
from training.release_files import files_of, follow


def rollback(home: Home, *, who: str, why: str, now: float) -> tuple[str | None, str]:
    """Return to the release before the current one, the champions with it. Returns the ids of both."""
    releases = ReleaseStore(home.releases)
    in_use = releases.current()
    before = files_of(releases, in_use)
    after = releases.rollback(who=who, why=why, now=now)
    try:
        follow(Registry(home.mlflow_uri, home.artifacts), releases, before)
    except UserError as error:
        raise UserError(
            f"Release {after} is in use again, but the registry was not told of it: {error} "
            "Its champions are set right by the next promotion."
        ) from None
    return in_use, after
