"""The numbers that results/grouping/README.md says are those of its tables."""

from __future__ import annotations

import pytest

from tests.docs.committed import cells, interval, kept, table, text, two

README = text("results/grouping/README.md")


@pytest.mark.parametrize(
    ("kind", "ours", "theirs"),
    [
        ("grouping", "component", "global"),
        ("grouping", "component", "layer"),
        ("importance", "surgeon", "magnitude"),
    ],
)
def test_each_difference_is_that_of_the_table(kind: str, ours: str, theirs: str) -> None:
    found = table("grouping/contrasts.csv").set_index(["kind", "ours", "theirs"])
    row = found.loc[(kind, ours, theirs)].squeeze()
    assert row["runs"] == 9
    said = interval(row)
    line = f"| {kind}: `{ours}` against `{theirs}` | {said} | {row['p']:.3f} | {row['detectable']:.3f} |"
    assert line in README
    if theirs == "global":
        assert f"({said}, p {row['p']:.3f}); the importance" in text("results/README.md")


def test_how_far_each_training_holds() -> None:
    found = table("grouping/summary.csv").set_index(["controller", "method"])["s95_deployed"]
    ends = [found.loc[f"recurrent-pendulum-{number}", "component + surgeon + reconstruct"] for number in (1, 2, 3)]
    assert f"`component` holds 0.95 to {ends[0]:.2f}, {ends[1]:.2f} and {ends[2]:.2f}" in README
    default = kept("default/restarts").xs("component + surgeon + distill-restarts", level="method")
    assert f"keeps {two(default.loc[('recurrent-pendulum-1', 0.98), 'value'])} at 0.98 on the first" in README


def test_what_global_leaves_of_what_acts() -> None:
    found = cells("grouping").set_index(["controller", "seed", "sparsity_asked", "method"])["sparsity_deployed"]
    one, other = (
        found.xs(f"{name} + surgeon + reconstruct", level="method").astype(float) for name in ("component", "global")
    )
    assert f"(a deployed sparsity less by {(one - other).mean():.3f} in the mean)" in README
