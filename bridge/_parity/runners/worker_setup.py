"""What decides about the numbers that a worker gives: devices, threads, determinism, TF32, seed."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from typing import Any

TF1 = "tf1"
OLDEST_TF2 = (2, 16)
INTER_OP_THREADS = 1
"""Nodes run one after another, so that state changes in one order."""


class SetupError(Exception):
    """This Python can't run the model at all; the text is one sentence."""


class NoGpuError(SetupError):
    """No GPU is visible."""


class Setup:
    """A TensorFlow that was imported and configured for one lane.

    Attributes:
      lane: what the runner asked for: the fields of its Lane, and `determinism`.
      tf: the module `tensorflow`.
      hub: the module `tensorflow_hub`; None where it is not used.
      device: where the model is to run, as TensorFlow names it.
    """

    def __init__(self, lane: Mapping[str, Any]):
        self.lane = lane
        kind, _, index = lane["device"].partition(":")
        self.device = f"/device:{kind.upper()}:{index or 0}"
        self._cpus = int(index or 0) + 1 if kind == "cpu" else 1
        self.tf = _import("tensorflow")
        self.hub = _import("tensorflow_hub") if lane["runtime"] == TF1 else None
        self._check_release()
        self.v1 = self.tf.compat.v1
        self.v1.logging.set_verbosity(self.v1.logging.ERROR)
        if lane["runtime"] != TF1:
            self._configure()

    def _check_release(self) -> None:
        version = self.tf.__version__
        found = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
        if self.hub is not None:
            if found[0] != 1:
                raise SetupError(f"this is TensorFlow {version}, where 1.x is asked for")
            if not hasattr(self.hub, "Module"):
                raise SetupError(f"tensorflow-hub {self.hub.__version__} has no hub.Module")
        elif found < OLDEST_TF2:
            raise SetupError(
                f"this is TensorFlow {version}, where at least "
                f"{OLDEST_TF2[0]}.{OLDEST_TF2[1]} is needed"
            )

    def _configure(self) -> None:
        """Configures what in TensorFlow 2 belongs to the process."""
        config = self.tf.config
        if self.lane["determinism"]:
            config.experimental.enable_op_determinism()
        config.experimental.enable_tensor_float_32_execution(self.lane["tf32"])
        config.threading.set_intra_op_parallelism_threads(self.lane["threads"])
        config.threading.set_inter_op_parallelism_threads(INTER_OP_THREADS)
        self.tf.random.set_seed(self.lane["seed"])
        gpus = config.list_physical_devices("GPU")
        # A second process on a GPU needs its part of the memory.
        for gpu in gpus:
            config.experimental.set_memory_growth(gpu, True)
        if self._cpus > 1:
            (cpu,) = config.list_physical_devices("CPU")
            logical = config.LogicalDeviceConfiguration()
            config.set_logical_device_configuration(cpu, [logical] * self._cpus)

    def session_config(self, *, rewrite: bool) -> Any:
        """Returns the ConfigProto of a session.

        Args:
          rewrite: whether Grappler may rewrite the graph, as it does by default. With the training
            of a deep net that takes longer than the training.
        """
        config = self.v1.ConfigProto(
            device_count={"CPU": self._cpus},
            intra_op_parallelism_threads=self.lane["threads"],
            inter_op_parallelism_threads=INTER_OP_THREADS,
            allow_soft_placement=True,
        )
        config.gpu_options.allow_growth = True
        config.graph_options.rewrite_options.disable_meta_optimizer = not rewrite
        return config

    def facts(self) -> dict[str, Any]:
        """Says which releases, devices and settings these are."""
        config = self.session_config(rewrite=True)
        with self.v1.Session(graph=self.tf.Graph(), config=config) as session:
            names = [device.name for device in session.list_devices()]
        devices = [short_device(name) for name in names if "XLA" not in name]
        return {
            "python": platform.python_version(),
            "tensorflow": self.tf.__version__,
            "tensorflow_hub": self.hub.__version__ if self.hub else "",
            "devices": devices,
            "settings": self._settings(),
        }

    def _settings(self) -> dict[str, str]:
        lane = self.lane
        threads = lane["threads"]
        settings = {
            "cpu": _processor(),
            "intra_op_threads": str(threads) if threads else f"default ({os.cpu_count()} cores)",
            "inter_op_threads": str(INTER_OP_THREADS),
            "onednn": _onednn(),
            "tf32": "on" if lane["tf32"] else "off",
            "seed": str(lane["seed"]),
        }
        if lane["runtime"] == TF1:
            # What TensorFlow 1.x has of determinism are variables of the environment.
            settings["determinism"] = "TF_DETERMINISTIC_OPS=1"
        else:
            settings["determinism"] = "on" if lane["determinism"] else "off"
            gpus = self.tf.config.list_physical_devices("GPU")
            details = self.tf.config.experimental.get_device_details
            models = [details(gpu).get("device_name", gpu.name) for gpu in gpus]
            if models:
                settings["gpu"] = ", ".join(models)
        return settings


def short_device(name: str) -> str:
    """Returns `/device:CPU:0` for `/job:localhost/replica:0/task:0/device:CPU:0`."""
    return name[name.find("/device:") :]


def _import(name: str) -> Any:
    try:
        return __import__(name)
    except Exception as error:
        # Not only ImportError: protobuf and numpy that don't fit raise what they like.
        text = " ".join(str(error).split())
        raise SetupError(f"{name} can't be imported: {type(error).__name__}: {text}") from error


def _onednn() -> str:
    """Whether TensorFlow computes with oneDNN, and what the environment says about it."""
    wanted = os.environ.get("TF_ENABLE_ONEDNN_OPTS")
    said = f"TF_ENABLE_ONEDNN_OPTS={wanted}" if wanted is not None else "by default"
    try:
        from tensorflow.python.util import _pywrap_util_port as port
    except ImportError:
        try:
            from tensorflow.python import pywrap_tensorflow as port
        except ImportError:
            return f"unknown ({said})"
    return f"{'on' if port.IsMklEnabled() else 'off'} ({said})"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
