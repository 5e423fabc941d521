"""Run a solved notebook headless, in a folder of its own: nothing on stderr, no connection, in time."""

from __future__ import annotations

import asyncio
import json
import os
import re
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lessons.machinery.notebook import build, dumps
from lessons.machinery.source import Source

SECONDS = 120  # of the processor, which other work on the machine does not lengthen
GIVE_UP = 600  # on the clock
BARE = re.compile(r"<[\w. ]+ at 0x|^\(?Text\(")  # what a call for its effect leaves behind
BEFORE = """
import sys, warnings
_connections = []
def _no_network(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        _connections.append(f"{event} {args[1:] if event == 'socket.connect' else args}")
        raise OSError("a lesson opens no connection")
sys.addaudithook(_no_network)
warnings.simplefilter("always")
"""
AFTER = """
import json as _json, time as _time
print(_json.dumps({"passed": list(lesson.passed), "replaced": lesson.replaced, "connections": _connections,
                   "seconds": _time.process_time()}))
"""


@dataclass
class Run:
    """What came of a run: the notebook with its outputs, its processor seconds, and what was wrong, a line each."""

    notebook: Any
    seconds: float
    faults: list[str] = field(default_factory=list)
    passed: list[str] = field(default_factory=list)


def run(source: Source, seconds: float = SECONDS, give_up: float = GIVE_UP, *, with_solutions: bool = True) -> Run:
    """Execute the solved notebook of a source, or the learner's, in a fresh kernel.

    Parameters
    ----------
    source : of the lesson
    seconds : of processor time that it may take
    give_up : seconds on the clock after which the run is stopped
    with_solutions : whether the solutions are in it

    Notes
    -----
    A warning of any kind goes to stderr, and a cell that writes there is a fault.  A connection that the lesson tries
    to open is refused, and is a fault even if the lesson lives with the refusal. So is a cell that shows an object
    by its address, such as what a call of Matplotlib returns.
    """
    import nbformat
    from jupyter_client import AsyncKernelManager
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    notebook = nbformat.reads(dumps(build(source, with_solutions)), as_version=4)
    nbformat.validate(notebook)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(BEFORE))
    notebook.cells.append(nbformat.v4.new_code_cell(AFTER))
    begin = time.perf_counter()
    result = Run(notebook, 0.0)
    with tempfile.TemporaryDirectory() as folder:
        quiet = ["--IPKernelApp.log_level=50"]  # it warns of TCP on the loopback
        where = {"metadata": {"path": folder}}
        # two kernels that start at once may choose one port; sockets in a folder of their own cannot meet
        apart = {"transport": "tcp" if os.name == "nt" else "ipc", "connection_file": str(Path(folder) / "kernel.json")}
        kernel = AsyncKernelManager(kernel_name="python3", **apart)
        client = NotebookClient(notebook, km=kernel, extra_arguments=quiet, resources=where)
        try:
            asyncio.run(asyncio.wait_for(client.async_execute(), give_up))
        except CellExecutionError as error:
            result.faults.append(f"{error.ename}: {error.evalue}")
        except (TimeoutError, CellTimeoutError):
            result.faults.append(f"stopped after {give_up:g} s")
        except (DeadKernelError, RuntimeError) as error:
            late = time.perf_counter() - begin >= give_up
            result.faults.append(f"stopped after {give_up:g} s" if late else f"the kernel did not live: {error}")
    last = notebook.cells.pop().outputs
    del notebook.cells[0]
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "stream" and output.name == "stderr":
                result.faults.append(f"on stderr: {output.text.strip()}")
            elif output.output_type == "execute_result" and BARE.search(text := output.data.get("text/plain", "")):
                result.faults.append(f"shows a bare object, {text.splitlines()[0]}: end the cell's last line with `;`")
    for number, cell in enumerate((cell for cell in notebook.cells if cell.cell_type == "code"), 1):
        cell.metadata.pop("execution", None)
        cell.execution_count = number if cell.execution_count else None
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = cell.execution_count
    if last:
        told = json.loads(last[0].text)
        result.passed, result.seconds = told["passed"], told["seconds"]
        if result.seconds > seconds:
            result.faults.append(f"took {result.seconds:.0f} s of processor time, more than {seconds:g}")
        result.faults += [f"opened a connection: {event}" for event in told["connections"]]
        result.faults += [f'yours: the check "{name}" had not passed' for name in told["replaced"]]
    return result


def page(notebook: Any, title: str) -> str:
    """Return an executed notebook as one HTML page."""
    from nbconvert import HTMLExporter

    return str(HTMLExporter().from_notebook_node(notebook, resources={"metadata": {"name": title}})[0])


def save(result: Run, folder: Path, source: Source) -> list[tuple[Path, str]]:
    """Return the files of an executed copy: the notebook, and its page."""
    import nbformat

    text = nbformat.writes(result.notebook)
    return [
        (folder / f"{source.name}.ipynb", text if text.endswith("\n") else text + "\n"),
        (folder / f"{source.name}.html", page(result.notebook, f"{source.number} · {source.title}")),
    ]
