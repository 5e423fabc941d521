"""One run on several processes: who they are, what travels between them, and the parts they play in training.

`mpiexec -n 4 python -m mpi4py -m minidl.train lenet multitask` starts them. Each process, a *rank*, holds the whole
network and takes its part of every batch. Nothing here imports mpi4py unless a command runs under it.
"""

from minidl.distributed.communicator import ALONE, Communicator
from minidl.distributed.launch import LaunchError, communicator

__all__ = ["ALONE", "Communicator", "LaunchError", "communicator"]
