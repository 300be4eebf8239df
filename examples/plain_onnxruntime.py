"""Inspect with ONNX Runtime alone: no draem, no torch.

pip install onnxruntime opencv-python-headless
python plain_onnxruntime.py model.onnx image.png
"""

import json
import sys

import cv2
import onnxruntime

model, picture = sys.argv[1:3]
session = onnxruntime.InferenceSession(model)
card = json.loads(session.get_modelmeta().custom_metadata_map["draem"])
network = card.get("network", card)  # draem 0.1.0 wrote these options at the top level
height, width = network["image_size"]

tiles = network.get("tile") or network.get("tiling")
for outside, value in (("tile", tiles), ("region_of_interest", card.get("region_of_interest"))):
    if value:
        sys.exit(f"{model}: this model has a {outside}, which is not in its graph; use draem")

image = cv2.cvtColor(cv2.imread(picture), cv2.COLOR_BGR2RGB)
if network["interpolation"] == "area":  # for the sides that shrink; those that grow come after
    smaller = min(image.shape[1], width), min(image.shape[0], height)
    image = cv2.resize(image, smaller, interpolation=cv2.INTER_AREA)
image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
images = image[None]  # (1, height, width, 3) uint8, RGB; more at a time will do

anomaly_map, anomaly_score = session.run(["anomaly_map", "anomaly_score"], {"images": images})

score, calibration = float(anomaly_score[0]), card["calibration"]
print(f"score {score:.4f}, highest pixel {anomaly_map[0].max():.4f}")
if calibration:
    print("anomalous" if score >= calibration["threshold"] else "normal")
