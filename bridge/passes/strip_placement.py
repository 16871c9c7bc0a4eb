"""Removes what ties nodes to devices and to each other."""

from __future__ import annotations

from typing import ClassVar

from bridge.model import Variant
from bridge.passes._infra import VariantPass
from bridge.report import Report


class StripPlacement(VariantPass):
    """Clears devices and colocation.

    Requires: nothing. Ensures: no node has a device or a `_class` attribute.

    1. `_class` names nodes that a function body does not have; inside one function the runtime
       needs no help to place resources with their users.
    2. A device of the exporting machine would make the model unusable on others. The report names
       every device that a node asked for.
    """

    name: ClassVar[str] = "strip-placement"

    def rewrite(self, variant: Variant, report: Report) -> int:
        """Clears the placement of one variant."""
        graph = variant.graph
        devices: dict[str, int] = {}
        changed = 0
        for node in graph.all_nodes():
            if node.device:
                devices[node.device] = devices.get(node.device, 0) + 1
            if node.device or "_class" in node.attr:
                changed += 1
                node.device = ""
                node.attr.pop("_class", None)
        for device, count in sorted(devices.items()):
            report.drop(
                "device",
                device,
                f"{count} {'nodes' if count > 1 else 'node'} asked for it; TensorFlow places "
                "nodes where the model is used",
                graph.where,
            )
        return changed
