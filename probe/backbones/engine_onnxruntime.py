"""The engine ``onnxruntime``: an ONNX file on the CPU, by the reference for its format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.backbones import onnx_file, weights
from probe.backbones.backbone import Backbone, BackboneSpec, Extractor
from probe.backbones.onnx_extractor import OnnxExtractor, tensors_of
from probe.backbones.onnx_file import Tensor
from probe.config import Home
from probe.errors import UsageError
from probe.machine import usable_cpus

EXTERNAL = "session.model_external_initializers_file_folder_path"


def load(row: Backbone, spec: BackboneSpec, batch_size: int, home: Home | None) -> Extractor:
    """See `probe.backbones.load`; nothing is kept."""
    import onnxruntime

    weights.check(spec)
    assert row.file is not None
    network = onnx_file.network(row.file)
    tensors = tensors_of(network, spec)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = usable_cpus(), 1
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    options.add_session_config_entry(EXTERNAL, str(row.file.parent.resolve()))
    try:
        session = onnxruntime.InferenceSession(
            onnx_file.ending_with(row.file, tensors), options, providers=["CPUExecutionProvider"]
        )
        return OnnxExtractor(_computing(session, network.input, tensors), network, tensors, spec, batch_size)
    except onnxruntime.capi.onnxruntime_pybind11_state.OnnxRuntimeException as error:
        raise UsageError(
            f"onnxruntime cannot compute {row.name}", found=str(error).strip().partition("\n")[0]
        ) from error


def _computing(session: Any, taken: str, tensors: Sequence[Tensor]) -> Any:
    names = [tensor.tensor for tensor in tensors]

    def compute(values: NDArray[Any]) -> list[NDArray[np.generic]]:
        found: list[NDArray[np.generic]] = session.run(names, {taken: values})
        return found

    return compute
