"""The command: `python -m minidl.export RUN --onnx FILE`."""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
from collections.abc import Sequence
from functools import partial

from ..backend import use_backend
from ..command_line import Parser, as_path, changed_code, complain, exit_status, say
from ..outputs import ONNX, SAFETENSORS, TORCH, check_outputs
from ..trained import Classifier, load
from ..writing import write_together

EPILOG = """\
examples:
  python -m minidl.export runs/photos --onnx photos.onnx
  python -m minidl.export runs/photos --torch photos.pt
  python -m minidl.export runs/photos --safetensors photos.safetensors --torch-names

The network takes (pixel/255 - mean)/std, channel by channel; mean and std are printed, and in the ONNX file's metadata
with the names of the classes.
Exit status: 0 done; 1 the run cannot be used, a layer cannot be written or a file; 2 wrong arguments; 4 the data or the
checkpoints cannot be used.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (those of the process by default) and return its exit status."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if not (args.onnx or args.safetensors or args.torch):
        parser.error("give --onnx, --safetensors or --torch, and a file")
    if args.torch_names and not args.safetensors:
        parser.error("--torch-names is for --safetensors; a file of --torch has PyTorch's names anyway")
    return exit_status(
        partial(complain, "minidl.export"),
        lambda: _export(args),
        files="choose another file",
        memory="close other programs",
        interrupted="interrupted; the files of a folder are all as before, or all new",
        when_free=lambda: ", then run it again",
    )


def _export(args: argparse.Namespace) -> None:
    """Write what is asked for, computed by NumPy."""
    check_outputs(
        [("--onnx", args.onnx, ONNX), ("--safetensors", args.safetensors, SAFETENSORS), ("--torch", args.torch, TORCH)],
        read=args.run,
    )
    for path in (args.onnx, args.safetensors, args.torch):
        if path is not None and not path.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, f"{os.strerror(errno.ENOENT)}; make its folder first", str(path))
    with use_backend("numpy"):
        _write(args, load(args.run, backend="numpy", check_code=not args.changed_code))


def _write(args: argparse.Namespace, trained: Classifier) -> None:
    """Write the files that are asked for, those of a folder together, and say what each is."""
    from ..interchange import to_torch_state
    from ..interchange.files import state_bytes
    from ..interchange.onnx_export import onnx_bytes
    from ..interchange.onnx_graph import OPSET

    net = trained.network
    mean, std = (", ".join(f"{value:.4f}" for value in values) for values in (trained.mean, trained.std))
    files, lines = {}, []
    if args.onnx:
        facts = {"mean": trained.mean.tolist(), "std": trained.std.tolist(), "class_names": trained.class_names}
        files[args.onnx] = onnx_bytes(net, trained.shape, {name: json.dumps(value) for name, value in facts.items()})
        shape = ", ".join(map(str, trained.shape))
        lines.append(f"{args.onnx}: ONNX, opset {OPSET}, input x (N, {shape}), output y, the logits")
    if args.safetensors:
        files[args.safetensors] = state_bytes(
            args.safetensors, to_torch_state(net) if args.torch_names else net.state()
        )
        lines.append(f"{args.safetensors}: safetensors, {'PyTorch' if args.torch_names else 'minidl'}'s names")
    if args.torch:
        files[args.torch] = state_bytes(args.torch, to_torch_state(net))
        lines.append(f"{args.torch}: for torch.load(path, weights_only=True), PyTorch's names")
    for folder in dict.fromkeys(path.parent for path in files):
        write_together({path: content for path, content in files.items() if path.parent == folder})
    for line in (*lines, f"x is (pixel/255 - mean)/std with mean {mean} and std {std}"):
        say(line)


def make_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m minidl.export",
        description="Write a trained network for other programs: as ONNX, or its weights for PyTorch.",
        epilog=EPILOG,
    )
    add = parser.add_argument
    add(
        "run", type=as_path, help="the folder of a run, of which the newest checkpoint is taken, or a checkpoint's file"
    )
    add("--onnx", type=as_path, metavar="FILE", help="write the network for inference as ONNX (needs the package onnx)")
    add("--safetensors", type=as_path, metavar="FILE", help="write weights and statistics as safetensors")
    add("--torch", type=as_path, metavar="FILE", help="write them as a .pt file for torch.load, under PyTorch's names")
    add(
        "--torch-names", action="store_true", help="use PyTorch's names in --safetensors, such as layer1.0.conv1.weight"
    )
    changed_code(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
