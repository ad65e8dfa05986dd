"""A teacher in ONNX, opened for the processor."""

from pathlib import Path
from typing import Any


def open_session(model: Path | bytes, threads: int) -> Any:
    """An onnxruntime session of a file, or of a serialised graph.

    Raises:
        ImportError: onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError("a teacher needs onnxruntime: pip install 'pixeltier[train]'") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
