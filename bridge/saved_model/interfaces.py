"""Decides what the SavedModel offers where: which variant answers for which object.

The variants without tags and with the tag `train` become `training=False` and `training=True` of
the root, others become subobjects. docs/how-it-works.md has the whole table.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from bridge.errors import UsageError
from bridge.model import INFERENCE, TRAIN, Model, Tags, Variant, format_tags
from bridge.report import Report

RESERVED = frozenset(
    {
        "signatures",
        "variables",
        "trainable_variables",
        "model_variables",
        "regularization_losses",
        "asset_paths",
        "graph_debug_info",
        "tensorflow_git_version",
        "tensorflow_version",
    }
)
"""Attributes of the result that no signature and no subobject may take.

Those of the reusable SavedModel's interface, and those that tf.saved_model.load itself sets.
"""


@dataclass(frozen=True)
class Interface:
    """An object with callables: the root, or a subobject of it.

    Attributes:
      name: attribute of the root that holds it; empty for the root itself.
      modes: the variant that answers for each value of `training`.
      serving_prefix: goes before the names of its serving signatures; None if it has none.
    """

    name: str
    modes: dict[bool, Variant]
    serving_prefix: str | None

    @property
    def variants(self) -> list[Variant]:
        """Its variants, each once, inference first."""
        return list({variant.label: variant for variant in self.modes.values()}.values())

    def signatures(self) -> list[str]:
        """Names of the signatures of any of its variants."""
        return sorted({name for variant in self.variants for name in variant.signatures})


def attribute_name(wanted: str, taken: Collection[str], report: Report) -> str:
    """Returns the attribute that a signature or a variant gets: its name, if that is free.

    Args:
      wanted: its name.
      taken: the attributes that are taken.
      report: told where the attribute is another.
    """
    base = wanted.lstrip("_") or "unnamed"
    name = base if base == wanted else f"{base}_"
    while name in taken:
        name += "_"
    if name != wanted:
        report.remark(
            "name", wanted, f"as an attribute it is called {name!r}, for {wanted!r} is not free"
        )
    return name


def plan_interfaces(model: Model, root: Tags | None, report: Report) -> list[Interface]:
    """Returns the root first, where some variant answers for it, then the subobjects.

    Args:
      model: the model.
      root: tags of the variant that the user wants as the root.
      report: told where the root has no callables.

    Raises:
      UsageError: no variant has these tags, or another answers for the root anyway.
    """
    variants = model.variants
    if root is not None and root not in variants:
        known = ", ".join(variant.label for variant in variants.values())
        raise UsageError(f"no variant has the tags {format_tags(root)}", hint=f"it has {known}")
    if INFERENCE in variants:
        if root not in (None, INFERENCE):
            raise UsageError(
                f"{format_tags(root or ())} can't be the root: the variant without tags is",
                hint="leave --variant out; the variant is a subobject of the result",
            )
        modes = {False: variants[INFERENCE], True: variants.get(TRAIN, variants[INFERENCE])}
        others = [v for tags, v in variants.items() if tags not in (INFERENCE, TRAIN)]
        names = _subobject_names(others, report)
        subobjects = [Interface(names[v.tags], {False: v, True: v}, None) for v in others]
        return [Interface("", modes, ""), *subobjects]
    chosen = root if root is not None else next(iter(variants)) if len(variants) == 1 else None
    interfaces: list[Interface] = []
    if chosen is not None:
        interfaces.append(Interface("", {False: variants[chosen], True: variants[chosen]}, ""))
    else:
        report.remark(
            "root",
            "__call__",
            "the module has no variant without tags, so the root can't be called; its subobjects "
            "can, and --variant TAGS makes one of them the root too",
        )
    names = _subobject_names(list(variants.values()), report)
    for tags, variant in variants.items():
        prefix = f"{names[tags]}/" if chosen is None else None
        interfaces.append(Interface(names[tags], {False: variant, True: variant}, prefix))
    return interfaces


def _subobject_names(variants: list[Variant], report: Report) -> dict[Tags, str]:
    """Returns the attribute of each variant: its sorted tags, joined with `_`."""
    names: dict[Tags, str] = {}
    for variant in variants:
        wanted = "_".join(sorted(variant.tags))
        names[variant.tags] = attribute_name(wanted, RESERVED | set(names.values()), report)
    return names
