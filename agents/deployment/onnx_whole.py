"""ONNX of what is no program of steps (convolutions, memories, values read twice), by PyTorch's own exporter."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import helper
from torch import nn

from prunectl.agents.controller import ControllerError
from prunectl.agents.deployment.metadata import KEY
from prunectl.agents.deployment.onnx_form import OPSET
from prunectl.registry import one_line


def whole_onnx_bytes(
    path: nn.Module, metadata: Mapping[str, Any], inputs: int, beside: tuple[str, int] | None = None
) -> bytes:
    """The model's file: one input ``(batch, inputs)`` float32, one output; metadata as `onnx_form` stores it.

    ``beside`` names another input, ``(batch, width)``, after ``observation``: the ``mask`` of the options that are
    allowed; or ``memory``, with another output ``memory_after`` beside ``action``: the caller keeps what comes out for
    the next decision, and begins an episode with zeros.

    The exporter that follows a run is used, whose models say the same at every export; layers are left as they are.

    Raises:
        ControllerError: PyTorch cannot export an operation of it.
    """
    given = {"observation": inputs, **dict([] if beside is None else [beside])}
    made = ["action", *(["memory_after"] if "memory" in given else [])]
    batch = {name: {0: "batch"} for name in (*given, *made)}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # that there is a newer exporter, which needs another package
        written = Path(folder, "whole.onnx")
        try:
            torch.onnx.export(
                path.eval(),
                tuple(torch.zeros(2, width) for width in given.values()),
                written,
                dynamo=False,
                opset_version=OPSET,
                input_names=list(given),
                output_names=made,
                dynamic_axes=batch,
            )
        except Exception as error:  # whatever it says of an operation that it does not know
            raise ControllerError(f"PyTorch cannot export it as ONNX ({one_line(error)})") from error
        model = onnx.load_model(written)
    model.producer_name, model.producer_version = "prunectl", ""
    helper.set_model_props(model, {KEY: json.dumps(metadata)})
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))
