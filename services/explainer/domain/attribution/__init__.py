"""Attribution methods: which pixels speak for the target. One file per method; this table gives them their names."""

from __future__ import annotations

from services.explainer.domain.attribution.base import AttributionMethod, attribute
from services.explainer.domain.attribution.deep_lift_shap import DeepLiftShap
from services.explainer.domain.attribution.input_x_gradient import InputXGradient
from services.explainer.domain.attribution.integrated_gradients import IntegratedGradients

METHODS: dict[str, AttributionMethod] = {
    "DEEP_LIFT_SHAP": DeepLiftShap(),
    "INTEGRATED_GRADIENTS": IntegratedGradients(),
    "INPUT_X_GRADIENT": InputXGradient(),
}
DEFAULT_METHOD = "DEEP_LIFT_SHAP"

__all__ = ["DEFAULT_METHOD", "METHODS", "AttributionMethod", "attribute"]
