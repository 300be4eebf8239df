"""A model file made into what runs without torch: ONNX, OpenVINO and MNN, checked for equality."""
