"""A page of Prometheus figures, read by the client library's own parser."""

from collections.abc import Iterator

from prometheus_client.parser import text_string_to_metric_families


class Figures:
    """`figures(name, label=value, …)` is one figure; 0 where the page has none."""

    def __init__(self, page: bytes | str) -> None:
        text = page.decode() if isinstance(page, bytes) else page
        self.families = list(text_string_to_metric_families(text))
        self._found = {(one.name, *sorted(one.labels.items())): one.value for one in self._samples()}

    def __call__(self, name: str, **labels: object) -> float:
        return self._found.get((name, *sorted((label, str(value)) for label, value in labels.items())), 0.0)

    def by(self, name: str, label: str, **others: object) -> dict[str, float]:
        """The figures of one name by the values of a label, where the others are as given."""
        rest = {name: str(value) for name, value in others.items()}
        found = [one for one in self._samples() if one.name == name]
        return {one.labels[label]: one.value for one in found if {**one.labels, label: ""} == {**rest, label: ""}}

    def _samples(self) -> Iterator:
        return (one for family in self.families for one in family.samples)
