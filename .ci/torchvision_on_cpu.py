"""Lets PyPI's torchvision, which is built for CUDA, run beside a torch for CPUs: goes into an environment as `sitecustomize.py`.

Its compiled parts do not load there. Two operators that it registers a shape for are declared without a body, and pictures
are decoded by Pillow. Resizing and the rest of what image processors use is torch's own.
"""

import importlib.abc
import importlib.machinery
import io
import sys


class TorchvisionOnCPU(importlib.abc.MetaPathFinder):
    """Stands before the import of torchvision."""

    library = None

    def find_spec(self, name, path=None, target=None):
        if name == "torchvision" and self.library is None:
            import torch

            self.library = torch.library.Library("torchvision", "DEF")
            for operator in ("nms", "qnms"):
                self.library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        if name != "torchvision.io":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            module.decode_image = decode_image

        spec.loader.exec_module = exec_module
        return spec


def decode_image(data, mode=None, **options):
    """A picture as torchvision gives it: uint8, (3, height, width)."""
    import numpy
    import torch
    from PIL import Image

    picture = Image.open(io.BytesIO(data.numpy().tobytes())).convert("RGB")
    return torch.from_numpy(numpy.array(picture)).permute(2, 0, 1)


sys.meta_path.insert(0, TorchvisionOnCPU())
