"""What results/default says is what its tables hold."""

from __future__ import annotations

import pandas as pd
import pytest

from prunectl.experiments.sweeping.store import Store
from tests.conftest import ROOT
from tests.docs.committed import cells, kept, table, text, two

README = (ROOT / "results" / "default" / "README.md").read_text()
SPARSITIES = (0.9, 0.95, 0.97, 0.98, 0.99)
ONCE, POLISHED = "component + surgeon + distill", "component + surgeon + polish"
AGAIN, SHORT = "component + surgeon + distill-restarts", "shallow + surgeon + distill"
#: Where a layer less is measured.
FAR = (0.95, 0.98, 0.99)


def entry(found: pd.Series) -> str:
    """What is kept, and what surely is."""
    return f"{two(found['value'])} ({two(found['sure'])})"


def chosen(folder: str = "default/chosen") -> pd.DataFrame:
    """What the default keeps, of the agents on which one cut falls short where nothing else is said."""
    return kept(folder).xs("chosen + surgeon + distill-restarts", level="method")


def side_by_side(name: str, *tables: pd.DataFrame) -> str:
    """Its line: at each sparsity what each table has; parameters that act and seconds at 0.98 are the last's."""
    shares = [entry(of.loc[name, at]) if (name, at) in of.index else "-" for at in SPARSITIES for of in tables]
    acts, seconds = (tables[-1].loc[(name, 0.98), column] for column in ("params_deployed", "seconds"))
    return f"| {name.removesuffix('_1')} | {' | '.join(shares)} | {acts:,.0f} | {seconds:.0f} |"


def test_every_agent_has_its_lines() -> None:
    tables = kept("default").xs(ONCE, level="method"), kept("default/restarts").xs(AGAIN, level="method")
    lines = {line for line in README.splitlines() if line.startswith("| ") and line.count("|") == 9}
    expected = {side_by_side(name, table) for table in tables for name in table.index.unique("controller")}
    assert lines - expected == {line for line in lines if line.startswith(("| agent", "| ---", "| sparsity", "| 0.9"))}
    assert expected <= lines


@pytest.mark.parametrize("sparsity", SPARSITIES)
def test_how_many_hold_is_counted(sparsity: float) -> None:
    """On the agents that both were measured on."""
    once, again = (
        kept(folder).xs((method, sparsity), level=("method", "asked"))
        for folder, method in (("default", ONCE), ("default/restarts", AGAIN))
    )
    default, tried = again.copy(), chosen().xs(sparsity, level="asked")
    both = tried.index.intersection(again.index)  # what one cut cannot reach is not counted
    default.loc[both] = tried.loc[both]
    tables = once.loc[again.index], again, default
    held = [str((table[column] >= 0.95).sum()) for table in tables for column in ("value", "sure")]
    assert f"| {sparsity:g} | {' | '.join(held)} | {len(again)} |" in README
    if sparsity in (0.9, 0.97):
        assert f"At both {held[4]} of {len(again)} keep 0.95" in README
    if sparsity == 0.98:
        assert f"at 0.98 {held[4]} of {len(again)} agents keep 0.95, {held[0]} with one student" in text(
            "results/README.md"
        )
        assert f"over fifty episodes, {held[4]} of {len(again)} agents keep 95%" in text("README.md")


def test_what_choosing_among_cuts_brings_is_that_of_its_cells() -> None:
    again, tried = kept("default/restarts").xs(AGAIN, level="method"), chosen()
    for name in tried.index.unique("controller"):
        assert side_by_side(name, again, tried) in README
    again_took = again["seconds"]
    once, again, best = (of["value"] for of in (kept("default").xs(ONCE, level="method"), again, tried))
    (left, anew), (fell, rose) = (
        [two(of[cell]) for of in (again, best)] for cell in (("ppo/Ant-v3_1", 0.9), ("ppo/BipedalWalker-v3_1", 0.9))
    )
    said = f"Ant keeps {anew} at 0.9 in the place of {left}, BipedalWalker {rose} in that of {fell}. At both"
    assert said in text("results/default/README.md")
    assert f"while all is read, keeps {two(best['ppo/Ant-v3_1', 0.99])}" in text("results/default/README.md")
    walker, ant = ("ppo/BipedalWalker-v3_1", 0.98), ("ppo/Ant-v3_1", 0.95)
    (cheetahs,) = {two(best[name, 0.98]) for name in ("sac/HalfCheetah-v3_1", "sac-halfcheetah-1")}
    before, after = ([two(of[cell]) for cell in (walker, ant)] for of in (once, best))
    assert (
        f"both SAC HalfCheetahs keep {cheetahs} there, BipedalWalker {after[0]} where one kept {before[0]}, on "
        f"{tried.loc[walker, 'params_deployed']:.0f} parameters, and Ant {after[1]} twenty times smaller where it kept "
        f"{before[1]}."
    ) in text("README.md")
    took = tried["seconds"].combine_first(again_took).xs(0.98, level="asked")
    assert f"The default takes {took.median():.0f} s in the median, {took.max():.0f} s at most" in text("README.md")
    assert f"in {took.median():.0f} s in the median and {took.max():.0f} s at most" in text("docs/choosing.md")
    planners = [best["tdmpc2-swingup-1", 0.98]]
    planners += [chosen("default/trainings").loc[(f"tdmpc2-swingup-{number}", 0.98), "value"] for number in (2, 3)]
    (planned,) = set(map(two, planners))
    assert f"TD-MPC2 keeps {planned} there on each of three trainings" in text("README.md")
    assert f"TD-MPC2 keeps {planned} at 0.98 on each of three trainings" in text("docs/choosing.md")
    assert (
        f"BipedalWalker keeps {two(best[walker])} at 0.98 in the place of {two(again[walker])}, Ant {two(best[ant])} "
        f"at 0.95 in the place of {two(again[ant])}"
    ) in text("docs/choosing.md")


def test_other_trainings_keep_what_their_cells_say() -> None:
    once, default = kept("default/trainings").xs(ONCE, level="method"), chosen("default/trainings")
    for name in default.index.unique("controller"):
        assert side_by_side(name, once, default) in README
    for at in SPARSITIES:
        tables = [of.xs(at, level="asked") for of in (once, default)]
        held = [str((of[column] >= 0.95).sum()) for of in tables for column in ("value", "sure")]
        assert f"| {at:g} | {' | '.join(held)} | {len(tables[1])} |" in README
        if at == 0.98:
            front = f"36 of 39 agents keep 95%, and {held[2]} of {len(tables[1])} other trainings of the bundled ones."
            assert front in text("README.md")
            assert f"and {held[2]} of {len(tables[1])} other trainings of the bundled ones" in text("results/README.md")
    keeps, first = default["value"].map(two), chosen()["value"].map(two)
    cheetahs = [[keeps[f"sac-halfcheetah-{number}", at] for number in (2, 3)] for at in (0.98, 0.99)]
    said = text("results/default/README.md")
    assert (
        f"where SAC's first HalfCheetah keeps {first['sac-halfcheetah-1', 0.98]} at 0.98 and "
        f"{first['sac-halfcheetah-1', 0.99]} at 0.99, the second and the third keep {' and '.join(cheetahs[0])} at "
        f"0.98, {' and '.join(cheetahs[1])} at 0.99"
    ) in said
    worlds = [
        [two(of.loc[(f"tdmpc2-swingup-{number}", at), "value"]) for number in (2, 3)]
        for of, at in ((default, 0.98), (default, 0.99), (once, 0.99))
    ]
    before = table("default/tried/bins.csv").set_index(["agent", "taught", "bins", "method"])["share"]
    old = [two(before[f"tdmpc2-swingup-{number}", "logits", "all", "the default"]) for number in (2, 3)]
    assert f"holds to 0.98**: {' and '.join(worlds[0])}, in the first student" in said
    assert f"before, {' and '.join(old)}. At 0.99 it keeps {' and '.join(worlds[1])}, where one student" in said
    assert f"one student keeps {' and '.join(worlds[2])}." in said
    memory = "recurrent-pendulum-2"
    assert (
        f"{keeps[memory, 0.98]} at 0.98, and at 0.99 {keeps[memory, 0.99]}, where one student keeps "
        f"{two(once.loc[(memory, 0.99), 'value'])}." in said
    )
    planner = " and ".join(keeps["tdmpc-pendulum-2", at] for at in (0.97, 0.98))
    assert "two of the fifty episodes do not swing up that the dense controller does" in said
    assert f"(it has one of its own that does not): {planner}." in said
    third = "tdmpc2-swingup-3"
    assert f"loses the pole in six of fifty, {keeps[third, 0.9]}, and is good enough on the ten." in said
    with Store.reading(ROOT / "results" / "default" / "trainings") as store:
        returns, rows = store.episode_returns(), store.results()
    (key,) = rows.loc[
        (rows["controller"] == third) & (rows["grouping"] == "chosen") & (rows["sparsity_asked"] == 0.9), "key"
    ]
    assert (returns[key] < 300).sum() == 6
    rows = rows[(rows["controller"] == "tdmpc-pendulum-2") & (rows["grouping"] != "component").fillna(True)]
    by_sparsity = rows.set_index("sparsity_asked")["key"]
    dense, *pruned = (returns[by_sparsity[at]] < -1_000 for at in (0.0, 0.97, 0.98))
    assert dense.sum() == 1
    assert [int((fails & ~dense).sum()) for fails in pruned] == [2, 2]


def test_what_is_said_of_world_models_pixels_and_memories() -> None:
    found = kept("default")["value"].xs(ONCE, level="method")
    swingup, pendulum, pixels, memory = (
        found.loc[name]
        for name in ("tdmpc-swingup-1", "tdmpc-pendulum-1", "ppo-pixels-pendulum-1", "recurrent-pendulum-1")
    )
    assert two(swingup.loc[0.99]) == "1.00"
    said = text("results/default/README.md")
    assert f"whole return on CartPoleSwingUp at 0.99, on Pendulum {two(pendulum.loc[0.98])} at 0.98 and" in said
    assert f"and {two(pendulum.loc[0.99])} at 0.99. The CNN keeps {two(pixels.loc[0.99])} at 0.99, the LSTM" in said
    assert f"falls there ({two(memory.loc[0.99])}), with {two(memory.loc[0.98])} at 0.98" in said


def test_what_polishing_brings_is_that_of_its_cells() -> None:
    taught, polished = (
        kept(folder).xs((method, 0.98), level=("method", "asked"))
        for folder, method in (("default", ONCE), ("default/polish", POLISHED))
    )
    for name in polished.index:
        before, after = (entry(of.loc[name]) for of in (taught, polished))
        seconds = f"{taught.loc[name, 'seconds']:.0f} | {polished.loc[name, 'seconds']:.0f}"
        assert f"| {name.removesuffix('_1')} | {before} | {after} | {seconds} |" in README
    walker, hopper = "ppo/BipedalWalker-v3_1", "trpo/Hopper-v3_1"
    (one, two_), (three, four) = (
        [two(of.loc[name, "value"]) for of in (taught, polished)] for name in (walker, hopper)
    )
    sizes = [int(polished.loc[name, "params_deployed"]) for name in (walker, hopper)]
    said = f"takes BipedalWalker from {one} to {two_} and TRPO's Hopper from {three} to {four} there"
    assert f"{said}, on networks of {sizes[0]} and {sizes[1]} parameters" in text("README.md")
    assert f"TRPO's Hopper from {three} to {four} of the dense return, BipedalWalker from {one} to {two_}" in text(
        "docs/choosing.md"
    )


def test_the_small_actor_is_that_of_its_returns() -> None:
    returns = pd.read_csv(ROOT / "results" / "default" / "trained-small" / "returns.csv").mean()
    pruned = cells("default").set_index(["controller", "sparsity_asked"]).loc[("sac-halfcheetah-1", 0.98)]
    assert f"| 256-256, trained | {returns['wide']:,.0f} |" in README
    assert f"| 26-26, trained | {returns['small']:,.0f} |" in README
    assert f"| 26-26, pruned and distilled | {pruned['mean_return']:,.0f} |" in README
    assert pruned["params_deployed"] == 1_494
    assert "the 1,494 parameters" in README


def test_what_beginning_again_brings_is_that_of_its_cells() -> None:
    once, again = (
        kept(folder)["value"].xs((method, 0.98), level=("method", "asked"))
        for folder, method in (("default", ONCE), ("default/restarts", AGAIN))
    )
    back = [name for name in again.index if once[name] < 0.95 <= again[name]]
    assert set(back) == {"sac/HalfCheetah-v3_1", "sac-halfcheetah-1", "ppo/Swimmer-v3_1"}
    assert f"misses it by a hair** ({again['sac-hopper-1']:.3f}, and" in README


def test_what_a_layer_less_brings_is_that_of_its_cells() -> None:
    once, short = (
        kept(folder).xs(method, level="method") for folder, method in (("default", ONCE), ("default/shallow", SHORT))
    )
    plain = once["value"].map(two)
    surely = {cell: entry(short.loc[cell]) for cell in short.index}
    for name in short.index.unique("controller"):
        cells_ = [f"{plain.get((name, at), '-')} | {surely.get((name, at), '-')}" for at in FAR]
        acts, seconds = (short.loc[(name, 0.98), column] for column in ("params_deployed", "seconds"))
        assert f"| {name.removesuffix('_1')} | {' | '.join(cells_)} | {acts:,} | {seconds:.0f} |" in README
    walker, ant = "ppo/BipedalWalker-v3_1", "ppo/Ant-v3_1"
    begun = kept("default/shallow-restarts").xs("shallow + surgeon + distill-restarts", level="method")
    readme = text("results/default/README.md")
    assert f"BipedalWalker keeps {entry(begun.loc[(walker, 0.95)])} at 0.95, where one student keeps" in readme
    assert f"so it stays at 0.95, {begun.loc[(ant, 0.95), 'value']:.3f} to be exact" in readme


def test_what_fewer_inputs_bring_is_that_of_their_cells() -> None:
    again = kept("default/restarts").xs(AGAIN, level="method")
    fewer = kept("default/inputs").xs("inputs + surgeon + distill-restarts", level="method")
    read = table("default/inputs/read.csv").set_index("controller")
    for name in fewer.index.unique("controller"):
        cells_ = [entry(of.loc[(name, at)]) if (name, at) in of.index else "-" for at in FAR for of in (again, fewer)]
        acts, seconds = (fewer.loc[(name, 0.98), column] for column in ("params_deployed", "seconds"))
        reads = f"{read.loc[name, 'read']} of {read.loc[name, 'of']}"
        assert f"| {name.removesuffix('_1')} | {' | '.join(cells_)} | {reads} | {acts:,} | {seconds:.0f} |" in README
    readme, needed = text("results/default/README.md"), read["of"] - read["read"]
    assert (
        f"Of the {len(read)} agents whose networks read the observation itself {(needed == 0).sum()} need all" in readme
    )
    assert needed[needed > 0].drop(index=fewer.index.unique("controller")).between(1, 3).all()
    ant, walker = "ppo/Ant-v3_1", "ppo/BipedalWalker-v3_1"
    best, sure = two(fewer.loc[(ant, 0.95), "value"]), two(fewer.loc[(ant, 0.95), "sure"])
    before, never = two(again.loc[(ant, 0.95), "value"]), read.loc[ant, "still"]
    assert (
        f"**Ant keeps {best} at 0.95, {sure} surely**, where `component` keeps {before}: {never} of its 112" in readme
    )
    assert f"Ant at 0.99 keeps {two(fewer.loc[(ant, 0.99), 'value'])}, a size" in text("docs/choosing.md")
    humanoid = two(fewer.loc[("a2c/Humanoid-v3_1", 0.99), "value"])
    assert f"At 0.99 it keeps {two(fewer.loc[(ant, 0.99), 'value'])}, a size" in readme
    assert f"Humanoid's {humanoid} is one too" in readme
    assert not {(ant, 0.99), ("a2c/Humanoid-v3_1", 0.99)} & set(again.index)
    gains = [two(of.loc[(walker, 0.99), "value"]) for of in (fewer, again)]
    assert f"({gains[0]} at 0.99 in the place of {gains[1]})" in readme


def test_what_leaving_more_inputs_out_brought() -> None:
    tried = table("default/tried/inputs-at-size.csv").set_index(["controller", "sparsity_asked"])["normalised_return"]
    ant, walker, hopper = "ppo/Ant-v3_1", "ppo/BipedalWalker-v3_1", "trpo/Hopper-v3_1"
    readme = text("results/default/README.md")
    assert f"(Ant {two(tried[ant, 0.99])} at 0.99 on 7 inputs, BipedalWalker {two(tried[walker, 0.98])} at" in readme
    assert f"TRPO's Hopper kept {two(tried[hopper, 0.98])} at 0.98, Ant at" in readme
    assert f"on all 28 that move ({two(tried[ant, 0.95])})" in readme
    assert f"TRPO's Hopper kept {two(tried[hopper, 0.98])} at 0.98 on six of eleven" in text("docs/method.md")


def test_what_critics_bring_is_that_of_their_cells() -> None:
    once = kept("default").xs(ONCE, level="method")
    told = kept("default/critics").xs("component + surgeon + distill-critic", level="method")
    for name in told.index.unique("controller"):
        cells_ = [f"{two(once.loc[(name, at), 'value'])} | {entry(told.loc[(name, at)])}" for at in SPARSITIES[1:]]
        assert f"| {name.removesuffix('_1')} | {' | '.join(cells_)} |" in README
