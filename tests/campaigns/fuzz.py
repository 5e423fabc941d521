"""The fuzzing campaign: coverage-guided random input to everything that reads a file from somebody else.

    python tests/campaigns/fuzz.py TARGET --state DIR --seconds 15

feeds one of the targets below (Atheris, which is libFuzzer for Python) and keeps the inputs that reached new code, and
the number of inputs, in DIR, so that the same command goes on. `--total --state DIR` prints what was reached. An input
is a finding, kept as DIR/TARGET/finding-*, where a reader raises anything but its documented error of one line, takes
more than a second of the processor's time, or more than 64 MB over the size of the input.
"""

import argparse
import atexit
import hashlib
import json
import lzma
import os
import re
import struct
import sys
import tempfile
import time
import tracemalloc
from functools import cached_property
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "train"), str(HERE.parent / "data"), str(HERE.parent)]

MOST_SECONDS, MOST_BYTES, LONGEST = 1.0, 64 << 20, 1000


def documented():
    """Return the errors that a reader may raise."""
    from minidl.check.safetensors import VectorError
    from minidl.data import DataError
    from minidl.train.checkpoint import CheckpointError
    from minidl.train.record import RunError
    from minidl.train.span import ConfigError

    return DataError, CheckpointError, RunError, ConfigError, VectorError


class Files:
    """A file of each name, in memory where the system has such a folder, written anew for each input.

    The folder is made for the first file, and is gone when the process ends.
    """

    @cached_property
    def folder(self):
        shared = "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else None
        self._kept = tempfile.TemporaryDirectory(prefix="minidl-fuzz-", dir=shared)
        atexit.register(self._kept.cleanup)
        return Path(self._kept.name)

    def __call__(self, name, content):
        path = self.folder / name
        path.write_bytes(content)
        return path


FILES = Files()
PATH = Path("input")
STEP = 3
_SUM = re.compile(rb"sha256:[0-9a-f]{64}")


def idx(data):
    from minidl.data.idx import parse_idx

    parse_idx(data, PATH)


def of_either(parse, data):
    """Read as CIFAR-10, else as CIFAR-100."""
    from minidl.data import DataError

    try:
        parse(data, PATH, (10,))
    except DataError:
        parse(data, PATH, (20, 100))


def cifar(data):
    from minidl.data.cifar import parse_cifar

    of_either(parse_cifar, data)


def pickled(data):
    from minidl.data.cifar import parse_cifar_pickle

    of_either(parse_cifar_pickle, data)


def svhn(data):
    from minidl.data.svhn import parse_svhn

    parse_svhn(data, PATH)


def packed(data):
    from minidl.data.compressed import unpack

    unpack(FILES("input", data))


def checkpoint(data):
    from minidl.train.checkpoint import load

    load(FILES(f"step-{STEP:09d}.safetensors", data))


def signed_checkpoint(data):
    """Let a checkpoint have the right sum, whatever it holds, and take it over into a run."""
    blank = _SUM.sub(b"sha256:" + b"0" * 64, data, count=1)
    digest = hashlib.sha256(blank).hexdigest().encode()
    resumed(_SUM.sub(b"sha256:" + digest, data, count=1))


def resumed(data):
    """Resume the tiny run from a checkpoint."""
    from minidl.train.checkpoint import load

    tensors, meta = load(FILES(f"step-{STEP:09d}.safetensors", data))
    trainer = tiny_trainer()
    trainer.state.restore(tensors, meta, PATH, known())


def config(data):
    from minidl.train.record import read_config

    FILES("config.json", data)
    read_config(FILES.folder)


def metrics(data):
    from minidl.train.record import read_metrics

    read_metrics(FILES("metrics.jsonl", data))


def vectors(data):
    """Read arrays that another program wrote, as `minidl.check` does."""
    from minidl.check.safetensors import loads

    loads(data)


TARGETS = {
    each.__name__: each
    for each in (idx, cifar, pickled, svhn, packed, checkpoint, signed_checkpoint, config, metrics, vectors)
}


def tiny_trainer(cache=[]):  # noqa: B006 - made once
    if not cache:
        from tiny_run import make_tiny, tiny_config, tiny_task

        from minidl.models import MODELS
        from minidl.train import Trainer

        MODELS["tiny"] = make_tiny
        cache.append(Trainer(tiny_config(backend="numpy"), quiet=True, task=tiny_task()))
    return cache[0]


def known():
    """Return what the logs and the settings of the tiny run say once its checkpoint is written."""
    from tiny_run import BATCHES, TOTAL

    from minidl.train.restore import Known

    return Known(BATCHES, 4, 5, [TOTAL], [], [{"step": STEP}], 3.4028234663852886e38)


def seeds(target):
    """Return small inputs to begin with, made of the bundled images and of a tiny run."""
    import gzip
    import pickle

    from data_files import cifar_content, idx_content, mat_content

    from minidl.data import load_task

    task = load_task("cifar10", sample=True, progress=False)
    images, labels = task.train.images[:2], task.train.labels[:2]
    grey = images[:, 0, :3, :4]
    small = idx_content(grey)
    if target == "idx":
        return [small, idx_content(labels), idx_content(images[:1])]
    if target == "cifar":
        return [cifar_content(images[:1], labels), cifar_content(images[:1], labels, labels)]
    if target == "pickled":
        batch = {"data": images.reshape(2, -1), "labels": labels.tolist(), "filenames": ["a", "b"]}
        fine = {b"data": images.reshape(2, -1), b"coarse_labels": [1, 2], b"fine_labels": [3, 4]}
        return [pickle.dumps(one, protocol) for one in (batch, fine) for protocol in (2, 3, 4)]
    if target == "svhn":
        return [mat_content(images[:n], labels[:n], packs) for n in (1, 2) for packs in (False, True)]
    if target == "packed":
        return [small, gzip.compress(small), lzma.compress(small), gzip.compress(small) + gzip.compress(b"")]
    if target in ("checkpoint", "signed_checkpoint", "vectors", "config", "metrics"):
        return _of_a_run(target)
    raise ValueError(target)


def _of_a_run(target):
    from tiny_run import make_tiny, tiny_config, tiny_task

    from minidl.models import MODELS
    from minidl.train import Trainer, plots

    MODELS["tiny"] = make_tiny
    plots.draw_run = lambda *args: None
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        Trainer(tiny_config(backend="numpy"), run, quiet=True, task=tiny_task()).run(STEP)
        saved = next((run / "checkpoints").iterdir()).read_bytes()
        Trainer(tiny_config(backend="numpy"), run, resume=True, quiet=True, task=tiny_task()).run()
        found = {"config": run / "config.json", "metrics": run / "metrics.jsonl"}
        if target in found:
            return [found[target].read_bytes()]
    head = b'{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    return [saved, struct.pack("<Q", len(head)) + head + bytes(8)] if target == "vectors" else [saved]


def check(target, data, allowed):
    """Feed one input; raise AssertionError where it is a finding."""
    tracemalloc.reset_peak()
    before, began = tracemalloc.get_traced_memory()[0], time.process_time()
    try:
        TARGETS[target](data)
    except allowed as error:
        text = str(error)
        assert "\n" not in text, f"not one line: {text[:LONGEST]}"
        assert len(text) < LONGEST, f"a long line: {text[:LONGEST]}"
    seconds, peak = time.process_time() - began, tracemalloc.get_traced_memory()[1] - before
    assert seconds < MOST_SECONDS, f"{seconds:.1f} s"
    assert peak < MOST_BYTES + len(data), f"{peak >> 20} MB"


def fuzz(target, state, seconds):
    """Go on with one target."""
    import atheris

    with atheris.instrument_imports(include=["minidl.data", "minidl.train", "minidl.check.safetensors"]):
        import minidl.check.safetensors
        import minidl.data
        import minidl.data.cifar
        import minidl.data.compressed
        import minidl.data.idx
        import minidl.data.plain_pickle
        import minidl.data.svhn
        import minidl.train
        import minidl.train.checkpoint
        import minidl.train.record  # noqa: F401

    folder = Path(state, target)
    corpus = folder / "corpus"
    if not corpus.exists():
        corpus.mkdir(parents=True)
        for number, content in enumerate(seeds(target)):
            (corpus / f"seed-{number}").write_bytes(content)
    allowed = documented()
    count = folder / "count"
    done = int(count.read_text("utf-8")) if count.exists() else 0
    tracemalloc.start()

    def one_input(data):
        nonlocal done
        done += 1
        if done % 64 == 0:
            write_count(count, done)
        check(target, data, allowed)

    options = [f"-max_total_time={seconds:g}", f"-artifact_prefix={folder}/finding-", "-print_final_stats=0"]
    options += ["-max_len=20000", "-timeout=30", "-rss_limit_mb=4096", "-verbosity=0", "-use_value_profile=1"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], one_input)
    atheris.Fuzz()


def write_count(path, number):
    """Write the number so that the file always holds one."""
    new = path.with_name("count.new")
    new.write_text(str(number))
    os.replace(new, path)


def total(state):
    """Return the inputs of each target, and the findings."""
    counts = {path.parent.name: int(path.read_text("utf-8")) for path in sorted(Path(state).glob("*/count"))}
    findings = sum(1 for _ in Path(state).glob("*/finding-*"))
    return {"inputs": sum(counts.values()), "of": counts, "findings": findings}


def main():
    """Fuzz, show one input, or print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", nargs="?", choices=TARGETS)
    parser.add_argument("--state", default=None)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--input", help="check this one file")
    parser.add_argument("--total", action="store_true")
    args = parser.parse_args()
    if args.total:
        print(json.dumps(total(args.state)))
    elif args.input:
        tracemalloc.start()
        check(args.target, Path(args.input).read_bytes(), documented())
    else:
        fuzz(args.target, args.state, args.seconds)


if __name__ == "__main__":
    main()
