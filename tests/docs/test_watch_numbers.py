"""What results/watch says is what its table holds."""

from __future__ import annotations

from tests.docs.committed import table, text


def test_every_controller_has_its_line() -> None:
    readme = text("results/watch/README.md")
    rows = table("watch/returns.csv")
    assert list(rows["controller"]) == ["dense", "default", "stock-global"]
    for row in rows.to_dict("records"):
        sparsity = f"{row['sparsity_deployed']:.3f}" if row["sparsity_deployed"] else "0"
        shown = f"{row['steps_200']:.1f} | {row['episode']:.1f} | {row['mean']:.1f} ± {row['std']:.1f}"
        assert f"| {row['controller']} | {sparsity} | {shown} |" in readme
