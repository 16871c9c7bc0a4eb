"""What the update ops of a TF1 Hub module write, and which of them belong to which signature.

A client runs all update ops of a variant, whatever signature it trains. A SavedModel has none: each
call runs its own. An update op belongs to the signatures along with whose outputs most of what it
writes is computed: those of a classifier's last layers to the one that returns classes, not to the
one that returns features, though both take the same images.
"""

from __future__ import annotations

from collections.abc import Iterable

from bridge._surfaces.bodies import Bodies
from bridge._surfaces.surface import Call, Updates
from bridge._surfaces.writes import EffectsReader
from bridge.graph import Tensor, parse_tensor
from bridge.model import Signature, Variant
from bridge.saved_model.bodies import update_ops_of


class ModuleUpdates:
    """Finds what a client of a variant writes."""

    def __init__(self, variant: Variant):
        """Takes a variant, which is to be read only."""
        self._graph = variant.graph
        self._update_ops = frozenset(variant.update_ops.values())
        self._effects = EffectsReader(Bodies(variant.graph), with_values=False)
        self._consumers = variant.graph.consumers()
        self._outputs = {name: _outputs(s) for name, s in variant.signatures.items()}
        self._ops = {
            name: frozenset(update_ops_of(variant, s.inputs).values())
            for name, s in variant.signatures.items()
        }
        self._computed = {name: self._computed_by(s) for name, s in variant.signatures.items()}
        self._known: dict[tuple[frozenset[str], tuple[Tensor, ...]], frozenset[str]] = {}
        # Some modules wait for their updates in the forward pass, and have no update ops for them.
        self._forward = self.written((), [t for tensors in self._outputs.values() for t in tensors])

    def _computed_by(self, signature: Signature) -> frozenset[str]:
        """Returns the nodes that are computed of a signature's inputs, for its outputs."""
        graph = self._graph
        tensors = [parse_tensor(tensor) for tensor in signature.input_tensors()]
        fed = graph.descendants(tensors, consumers=self._consumers)
        return frozenset(fed & graph.ancestors(tensor.node for tensor in _outputs(signature)))

    def written(self, ops: Iterable[str], tensors: Iterable[Tensor] = ()) -> frozenset[str]:
        """Returns the variables that are written where some ops run, and tensors are computed."""
        key = frozenset(ops), tuple(tensors)
        if key not in self._known:
            effects = self._effects.of_graph(self._graph, key[1], sorted(key[0]))
            self._known[key] = frozenset(effects.written)
        return self._known[key]

    def of_all(self) -> frozenset[str]:
        """Returns what all outputs and update ops write."""
        return self.written(self._update_ops) | self._forward

    def of_calls(self) -> frozenset[str]:
        """Returns what all outputs write, and the update ops that inputs of a signature feed."""
        return self.written(frozenset[str]().union(*self._ops.values())) | self._forward

    def of_call(self, call: Call) -> Updates:
        """Returns what belongs to a signature.

        Args:
          call: the call that computes it.
        """
        ops = self._ops[call.name]
        forward = self.written((), self._outputs[call.name])
        own = self.written(ops - self._others(call.name)) | forward
        written = self.written(ops) | forward
        return Updates(call, False, written, forward, written - own)

    def _others(self, name: str) -> set[str]:
        """Returns the update ops of which another signature computes more than this one."""
        ours = self._computed[name]
        found: set[str] = set()
        for other, theirs in self._computed.items():
            if theirs != ours:
                more = self._made_of(theirs - ours) & self._ops[other]
                found |= more - self._made_of(ours - theirs)
        return found

    def _made_of(self, nodes: Iterable[str]) -> set[str]:
        tensors = [parse_tensor(f"^{name}") for name in nodes]
        return self._graph.descendants(tensors, consumers=self._consumers)


def _outputs(signature: Signature) -> list[Tensor]:
    return [parse_tensor(name) for name in signature.output_tensors()]
