"""Decides what the SavedModel offers where: which variant answers for which object.

This is spec section "what a conversion must keep" in code: the inference and training variants
become `training=False` and `training=True` of the root, other variants become subobjects.
"""

from __future__ import annotations

from dataclasses import dataclass

from bridge.errors import UsageError
from bridge.model import INFERENCE, TRAIN, Model, Tags, Variant, format_tags
from bridge.report import Report

DEFAULT = "default"


@dataclass(frozen=True)
class Interface:
    """An object with callables: the root, or a subobject of it.

    Attributes:
      name: name of the subobject; empty for the root.
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


def subobject_name(tags: Tags) -> str:
    """The sorted tags joined with `_`, the attribute that a variant of its own gets."""
    return "_".join(sorted(tags))


def plan_interfaces(model: Model, root: Tags | None, report: Report) -> list[Interface]:
    """Returns the root first, where some variant answers for it, then the subobjects.

    Args:
      model: the model.
      root: tags of the variant that the user wants as the root.
      report: told where the root has no callables, and what `training` means for it.

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
        return [
            Interface("", modes, ""),
            *(Interface(subobject_name(v.tags), {False: v, True: v}, None) for v in others),
        ]
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
    for tags, variant in variants.items():
        name = subobject_name(tags)
        prefix = f"{name}/" if chosen is None else None
        interfaces.append(Interface(name, {False: variant, True: variant}, prefix))
    return interfaces
