"""Curves are drawn for runs of every kind; what they show is looked at by people."""

import pytest
from tiny_run import train

from minidl.train.plots import draw_comparison, draw_run
from minidl.train.record import RunError, read_losses


def size(path):
    """Return width and height of a PNG."""
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG")
    return int.from_bytes(data[16:20]), int.from_bytes(data[20:24])


@pytest.mark.parametrize(("changes", "panels"), [({}, 3), ({"norm": "bn"}, 2), ({"eval_every": 14, "norm": "none"}, 2)])
def test_a_finished_run_has_curves_with_a_panel_for_gates_where_there_are_some(tmp_path, changes, panels):
    train(tmp_path / "run", **changes)
    width, height = size(tmp_path / "run" / "curves.png")
    assert width == pytest.approx(panels * 4.8 * 110, abs=1)
    assert height > 300


def test_the_losses_between_evaluations_are_in_the_picture(tmp_path):
    trainer = train(tmp_path / "run", norm="bn", eval_every=14)
    losses = read_losses(tmp_path / "run" / "losses.jsonl")
    pictures = []
    for name, given in (("with", losses), ("without", [])):
        draw_run(trainer.history, given, trainer._plan, "tiny", tmp_path / f"{name}.png")
        pictures.append((tmp_path / f"{name}.png").read_bytes())
    assert pictures[0] != pictures[1]


@pytest.mark.parametrize("layers", [8, 57])
def test_the_curves_of_a_network_with_many_gates_are_drawn_whole(tmp_path, layers):
    """No warning that the names left no room for the lines; warnings are errors."""
    trainer = train(tmp_path / "run")
    (gates,) = trainer.history[-1]["gates"].values()
    history = [{**line, "gates": {str(i): gates for i in range(layers)}} for line in trainer.history]
    draw_run(history, [], trainer._plan, "many", tmp_path / "many.png")
    assert size(tmp_path / "many.png")[0] == pytest.approx(3 * 4.8 * 110, abs=1)


@pytest.mark.usefixtures("no_curves")
def test_runs_are_drawn_beside_each_other(tmp_path):
    train(tmp_path / "bn", norm="bn")
    train(tmp_path / "mn")
    for runs, error, message in (
        ({}, RunError, r"there must be a run to draw, got none; give \{label: folder\}"),
        ([tmp_path / "bn"], TypeError, r"runs must be labels with folders, got \[.*; give \{label: folder\}"),
        ({"BN": 3}, TypeError, r"the run of BN must be a folder, got 3; give that of its --out"),
        ({"BN": tmp_path / "no"}, RunError, r"no has no metrics.jsonl with an evaluation; give the folder of a run"),
    ):
        with pytest.raises(error, match=f"^draw_comparison: .*{message}"):
            draw_comparison(runs, tmp_path / "both.png")
    assert not (tmp_path / "both.png").exists()
    draw_comparison({"BN": tmp_path / "bn", "MN": tmp_path / "mn"}, tmp_path / "both.png")
    assert size(tmp_path / "both.png")[0] == pytest.approx(2 * 4.8 * 110, abs=1)
