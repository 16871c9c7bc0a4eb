"""Which networks, at which size, in which formats."""

from __future__ import annotations

from dataclasses import dataclass

KERAS3 = ("keras3-export", "keras3-save", "reusable")
TF_KERAS = ("tf_keras-save", "tf_keras-export")
FORMATS = KERAS3 + TF_KERAS

# Formats in which the training trace is saved too.
TRAINABLE_FORMATS = frozenset({"reusable", "tf_keras-save"})

# Behind the name of a format: the training trace drops nothing.
STILL = "-still"


@dataclass(frozen=True)
class Network:
    """A network.

    Attributes:
      name: its name in keras.applications, or `ViT` for the one that `vit.py` builds.
      size: height and width of its images. Smaller than usual to save time, but large enough for
        the last feature map to have several positions: batch norm in training divides by their
        variance.
      pixels: the largest pixel value that it expects: 255 where the network itself rescales.
      drops: whether its training trace draws random numbers.
    """

    name: str
    size: int
    pixels: int = 1
    drops: bool = False


NETWORKS = {
    network.name: network
    for network in (
        Network("MobileNet", 96, drops=True),
        Network("MobileNetV2", 96),
        Network("MobileNetV3Small", 96, pixels=255, drops=True),
        Network("ResNet50", 64),
        Network("ResNet50V2", 64),
        Network("InceptionV3", 128),
        Network("InceptionResNetV2", 128),
        Network("Xception", 96),
        Network("DenseNet121", 64),
        Network("NASNetMobile", 96),
        Network("EfficientNetB0", 96, pixels=255, drops=True),
        Network("EfficientNetV2B0", 96, pixels=255, drops=True),
        Network("ConvNeXtTiny", 64, pixels=255),
        Network("VGG16", 64),
        Network("ViT", 32, drops=True),
    )
}


def formats_of(keras: str) -> tuple[str, ...]:
    """The formats of `keras` or `tf_keras`."""
    return KERAS3 if keras == "keras" else TF_KERAS
