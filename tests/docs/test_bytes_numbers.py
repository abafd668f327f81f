"""What results/bytes says is in its table."""

from __future__ import annotations

from collections.abc import Mapping

from tests.docs.committed import table, text


def test_what_is_said_at_equal_bytes() -> None:
    readme, points = text("results/bytes/README.md"), table("bytes/bytes.csv").set_index(["way", "sparsity"])

    def at(way: str, sparsity: float) -> Mapping[str, float]:
        return dict(points.loc[(way, sparsity)])

    both, pruned, eight = at("pruned, 8 bits", 0.99), at("pruned", 0.99), at("pruned, 8 bits", 0.0)
    low_rank, half, sparse = at("low rank", 0.95), at("sparse", 0.5), at("sparse", 0.8)
    four = 1 - points.loc["pruned, 4 bits"]["normalised_return"]
    for said in (
        f"{both['bytes']:,} bytes, {both['fewer']:.0f} times fewer than the dense floats, keep "
        f"{both['normalised_return']:.3f}",
        f"pruning {pruned['fewer']:.0f} times as far as it was measured (0.99), eight bits {eight['fewer']:.1f} times",
        f"is as good here, to 0.99 ({at('scratch', 0.99)['normalised_return']:.3f})",
        f"begins to lose at {low_rank['fewer']:.0f} times fewer ({low_rank['normalised_return']:.3f})",
        f"at {half['fewer']:.1f} times ({half['normalised_return']:.3f}), and at {sparse['fewer']:.0f} times they have "
        f"lost more ({sparse['normalised_return']:.3f}) than eight bits do at the same bytes "
        f"({eight['normalised_return']:.3f})",
        f"cost {four.min():.2f} to {four.max():.2f} of the return at every size",
    ):
        assert said in readme, said
