"""From minidl to other frameworks and back: PyTorch's state dictionaries, safetensors and .pt files, ONNX."""

from minidl.interchange.errors import StateError
from minidl.interchange.files import read_state, write_state
from minidl.interchange.onnx_export import export_onnx
from minidl.interchange.torch_names import layer_names
from minidl.interchange.torch_state import from_torch_state, to_torch_state

__all__ = [
    "StateError",
    "export_onnx",
    "from_torch_state",
    "layer_names",
    "read_state",
    "to_torch_state",
    "write_state",
]
