"""Counts what a model has, whatever the format that it is written in."""

from __future__ import annotations

from bridge.model import Model
from bridge.report import Counts


def count_model(model: Model, kept: Counts) -> None:
    """Fills in what every writer keeps: variants, signatures, variables, assets, attachments."""
    variants, variables = list(model.variants.values()), list(model.variables.values())
    kept.variants = len(variants)
    kept.signatures = sum(len(variant.signatures) for variant in variants)
    kept.variables = len(variables)
    kept.variable_bytes = sum(variable.data.size for variable in variables)
    kept.trainable_variables = sum(variable.trainable for variable in variables)
    kept.reference_variables = sum(variable.was_ref for variable in variables)
    kept.partitioned_variables = len({v.save_slice.full_name for v in variables if v.save_slice})
    kept.assets = len(model.assets)
    kept.asset_bytes = sum(asset.size for asset in model.assets.values())
    kept.attachments = len({item for v in variants for item in v.attachments.items()})
