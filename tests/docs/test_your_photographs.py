"""docs/your-photographs.md, and the commands of docs/data.md for photographs, word for word, as a newcomer goes."""

import json
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from following import DOCS, commands_of, files_of, follow, run
from PIL import Image
from tolerance import assert_close

import minidl
from minidl.data.fit import fit_file
from minidl.export.__main__ import main as export

PAGE = DOCS / "your-photographs.md"
README = DOCS.parent / "README.md"
TRAIN = "minidl train lenet folder --data-dir photos --norm rms_norm:RMSNorm --out runs/shapes"
TWO = "photos/circle/00.jpg others/hexagon/00.jpg"
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="the pages are not beside an installed package")


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """A folder in which somebody followed the page, and what each command printed."""
    folder = tmp_path_factory.mktemp("page")
    return folder, follow(folder, PAGE.read_text("utf-8"))


def test_the_readme_leads_to_the_page_and_the_page_has_the_whole_way():
    page = PAGE.read_text("utf-8")
    assert f"(docs/{PAGE.name})" in README.read_text("utf-8")
    assert list(files_of(page)) == ["draw_photos.py", "rms_norm.py", "check_rms_norm.py", "use_it.py", "anywhere.py"]
    kinds = [re.sub(r"^python (-m minidl\.)?|^minidl ", "", command).split()[0] for command in commands_of(page)]
    assert kinds == [
        *("draw_photos.py", "check_rms_norm.py", "train", "evaluate", "predict", "use_it.py"),
        *("export", "anywhere.py", "predict", "train", "train"),
    ]


def test_the_norms_gradients_are_right_and_a_term_that_is_dropped_is_found(followed, tmp_path):
    folder, printed = followed
    assert printed["python check_rms_norm.py"] == "the gradients are right\n"
    for name in ("rms_norm.py", "check_rms_norm.py"):
        text = (folder / name).read_text("utf-8")
        (tmp_path / name).write_text(text.replace(" + 2 * m * dq", ""), "utf-8")
    with pytest.raises(AssertionError, match="gradient: dx must agree with the numeric derivative"):
        run(tmp_path, "python check_rms_norm.py")


def test_training_ends_with_the_lines_that_the_page_shows(followed):
    folder, printed = followed
    lines = printed[TRAIN].splitlines()
    assert len([line for line in lines if line.startswith("epoch ")]) == 30
    for line, kind in zip(lines[-3:], ("last", "best"), strict=False):
        shown = rf"^{kind}: epoch \d+, update \d+: test error \d+\.\d\d %$"
        assert re.match(shown, line)
        assert re.search(shown, PAGE.read_text("utf-8"), re.M)
    config = json.loads((folder / "runs/shapes/config.json").read_text("utf-8"))
    assert (config["code"]["norm"]["name"], len(config["code"]["norm"]["sha256"])) == ("rms_norm:RMSNorm", 64)
    assert config["dataset"]["train_images_by_class"] == {"circle": 32, "square": 32, "triangle": 32}
    assert {"metrics.jsonl", "losses.jsonl", "curves.png"} <= {path.name for path in (folder / "runs/shapes").iterdir()}


def test_the_network_learns_what_guessing_cannot_know_and_is_measured_class_by_class(followed):
    folder, printed = followed
    out = printed["minidl evaluate runs/shapes"]
    assert (
        float(re.search(r"^test error (\S+) % \(\d+ of 24\), test loss ", out, re.M)[1]) < 100 / 3
    )  # guessing: twice that
    assert "\nclass     images  wrong  error %  most often taken for\n" in out
    assert all(re.search(rf"^{name} +8 ", out, re.M) for name in ("circle", "square", "triangle"))
    names = {path.name for path in (folder / "runs" / "shapes" / "evaluation").iterdir()}
    assert names == {"evaluation.json", "classes.csv", "confusion.csv", "confusion.png"}


def test_images_are_told_apart_from_the_command_line_and_from_python(followed):
    _, printed = followed
    lines = printed["minidl predict runs/shapes photos/circle/00.jpg others/hexagon --top 2"].splitlines()
    assert len(lines) == 41
    kinds = "circle|square|triangle"
    assert all(re.fullmatch(rf"\S+\.jpg: ({kinds}) [01]\.\d{{3}} \(({kinds}) 0\.\d{{3}}\)", line) for line in lines)
    assert re.match(rf"\['({kinds})', '({kinds})'\] \(2, 3\)\n\[\('", printed["python use_it.py"])


def test_the_exported_network_says_the_same_without_minidl(followed):
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    _, printed = followed
    exported = printed["minidl export runs/shapes --onnx shapes.onnx"]
    assert "shapes.onnx: ONNX, opset 17, input x (N, 3, 32, 32), output y, the logits" in exported
    there, here = (
        [line.split() for line in printed[command].splitlines()]
        for command in (f"python anywhere.py {TWO}", f"minidl predict runs/shapes {TWO} --top 1")
    )
    assert [line[:2] for line in there] == [line[:2] for line in here]
    assert len(there) == 2
    for (_, _, one), (_, _, other) in zip(there, here, strict=True):
        assert round(1000 * abs(float(one) - float(other))) <= 1  # both are rounded to a thousandth
    assert not re.search(r"minidl|rms_norm", files_of(PAGE.read_text("utf-8"))["anywhere.py"])


@pytest.mark.parametrize("turned", [False, True])
def test_the_program_makes_of_every_kind_of_picture_what_minidl_makes_of_it(tmp_path, monkeypatch, turned):
    """Only onnxruntime is stood in for: by a network that shows its input."""
    rng = np.random.default_rng(5)
    pixels = rng.integers(0, 256, (40, 53, 4), np.uint8)
    colour, clear = Image.fromarray(pixels[..., :3]), Image.fromarray(pixels)
    palette = colour.quantize(9)
    deep = Image.fromarray(rng.integers(0, 2**16, (40, 53)).astype(np.uint16))
    kinds = {
        "L.png": colour.convert("L"),
        "RGB.jpg": colour,
        "RGBA.png": clear,
        "RGBA.webp": clear,
        "P.png": palette,
        "P transparent.png": palette,
        "I;16.png": deep,
        "I;16.tiff": deep,
        "1.png": colour.convert("1"),
        "CMYK.jpg": colour.convert("CMYK"),
        "LA.png": clear.convert("LA"),
    }
    exif = Image.Exif()
    exif[0x112] = 6 if turned else 1
    inputs = []

    class Session:
        def __init__(self, path):
            pass

        def get_modelmeta(self):
            notes = {"mean": [0, 0, 0], "std": [1, 1, 1], "class_names": ["a", "b"]}
            return SimpleNamespace(custom_metadata_map={name: json.dumps(note) for name, note in notes.items()})

        def get_inputs(self):
            return [SimpleNamespace(shape=["N", 3, 32, 32])]

        def run(self, names, given):
            inputs.append(given["x"][0])
            return [np.zeros((1, 2), np.float32)]

    for name, image in kinds.items():
        # opened by its name, as the page does, a turned TIFF is misread by Pillow 13
        turn = {} if name.endswith("tiff") else {"exif": exif}
        image.save(tmp_path / name, **turn, **({"transparency": 3} if "transparent" in name else {}))
    paths = [str(tmp_path / name) for name in kinds]
    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace(InferenceSession=Session))
    monkeypatch.setattr(sys, "argv", ["anywhere.py", *paths])
    exec(files_of(PAGE.read_text("utf-8"))["anywhere.py"], {})
    assert len(inputs) == len(kinds)
    for path, x in zip(paths, inputs, strict=True):
        np.testing.assert_array_equal(np.round(255 * x).astype(np.uint8), fit_file(path, 32), err_msg=path)


def test_its_logits_are_minidls_to_rounding(followed, monkeypatch):
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    folder, _ = followed
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(DOCS.parent / "tests" / "interchange")
    from onnx_runs import moved
    from onnx_runs import run as run_onnx

    try:
        assert export(["runs/shapes", "--onnx", "longer.onnx"]) == 0
        net = minidl.load("runs/shapes")
    finally:
        sys.modules.pop("rms_norm", None)
    mean, std = (np.reshape(value, (3, 1, 1)) for value in (net.mean, net.std))
    x = ((net.inputs(sorted(folder.glob("others/hexagon/*.jpg"))[:5]) / 255 - mean) / std).astype(np.float32)
    assert_close(run_onnx("longer.onnx", x), net.network.forward(x), moved(net.network, x, trials=4))


def test_the_run_is_made_longer_and_another_starts_from_it(followed):
    folder, printed = followed
    extended = printed["minidl train --out runs/shapes --resume --epochs 60"]
    assert "extended from 30e to 60e after update 180" in extended
    assert json.loads((folder / "runs/shapes/summary.json").read_text("utf-8"))["step"] == 360
    there = json.loads((folder / "runs/others/config.json").read_text("utf-8"))
    assert (there["from"]["step"], there["from"]["as_drawn"]) == (360, ["13.bias", "13.weight"])


COLOURS = {"red apples": (200, 40, 40), "sea": (30, 70, 150), "wet leaves": (40, 130, 50)}


def photograph(rng, colour):
    """Return a picture of a class: its colour with a bright spot, of any size."""
    width, height = rng.integers(40, 90, 2)
    pixels = np.clip(rng.normal(colour, 20, (height, width, 3)), 0, 255).astype(np.uint8)
    pixels[height // 3 : height // 2, width // 3 : width // 2] = 230
    return Image.fromarray(pixels)


@pytest.fixture
def as_people_have_them(tmp_path):
    """A folder of photographs in many formats, with what telephones and computers leave beside them."""
    rng = np.random.default_rng(7)
    upside = Image.Exif()
    upside[0x112] = 6  # a camera that was held on its side
    for name, colour in COLOURS.items():
        here = tmp_path / "photos" / name
        (here / "holiday").mkdir(parents=True)
        for i in range(3):
            photograph(rng, colour).save(here / f"IMG_{i:04d}.JPG")
            photograph(rng, colour).save(here / f"with alpha {i}.png")
            photograph(rng, colour).convert("RGBA").save(here / f"alpha {i}.png")
            photograph(rng, colour).convert("CMYK").save(here / f"scan {i}.jpeg")
            photograph(rng, colour).convert("P").save(here / f"palette{i}.gif")
            photograph(rng, colour).save(here / "holiday" / f"turned{i}.jpg", exif=upside)
            photograph(rng, colour).save(here / "holiday" / f"{i}.webp")
        (here / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
        (here / "._IMG_0000.JPG").write_bytes(b"\0\5\x16\7")
    (tmp_path / "photos" / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    photograph(rng, COLOURS["sea"]).convert("CMYK").save(tmp_path / "new.jpg")
    return tmp_path


def test_three_commands_take_photographs_as_people_have_them(as_people_have_them):
    blocks = re.findall(r"```bash\n(.*?)```", (DOCS / "data.md").read_text("utf-8"), re.S)
    (commands,) = (block.splitlines() for block in blocks if "lenet folder" in block)
    train, evaluate, predict = (run(as_people_have_them, command) for command in commands)
    first, ignored, *_ = train.splitlines()
    assert first.startswith("folder: 51 training images, 12 test images of 3 classes (red apples, sea, wet leaves)")
    assert ignored == "folder: files that are not images are ignored (3 .db)"
    assert float(re.search(r"^test error (\S+) % ", evaluate, re.M)[1]) < 100 / 3  # guessing: twice that
    assert re.match(r"new\.jpg: sea [01]\.\d{3} \(", predict)
    assert len(run(as_people_have_them, "minidl predict runs/photos photos --top 1").splitlines()) == 63
