"""Controllers out of the lab: the deployed path as ONNX and as C, and running either as a controller."""
