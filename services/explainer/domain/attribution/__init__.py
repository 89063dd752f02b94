"""Attribution methods: which pixels speak for the target. One file per method; this table gives them their names."""

from __future__ import annotations

from services.explainer.domain.attribution.base import AttributionMethod, attribute
from services.explainer.domain.attribution.class_activation import ClassActivation, GradCam, LayerCam
from services.explainer.domain.attribution.deep_lift_shap import DeepLiftShap
from services.explainer.domain.attribution.input_x_gradient import InputXGradient
from services.explainer.domain.attribution.integrated_gradients import IntegratedGradients
from services.explainer.domain.attribution.occlusion import Occlusion
from services.explainer.domain.attribution.smooth_grad import SmoothGrad

METHODS: dict[str, AttributionMethod] = {
    "DEEP_LIFT_SHAP": DeepLiftShap(),
    "INTEGRATED_GRADIENTS": IntegratedGradients(),
    "INPUT_X_GRADIENT": InputXGradient(),
    "SMOOTH_GRAD": SmoothGrad(),
    "GRAD_CAM": GradCam(),
    "LAYER_CAM": LayerCam(),
    "OCCLUSION": Occlusion(),
}
"""A method's place in the table is its number on Triton's wire: new ones go to the end."""
DEFAULT_METHOD = "DEEP_LIFT_SHAP"
FIT_EVERY_NET = tuple(name for name, method in METHODS.items() if not isinstance(method, ClassActivation))
"""Methods that read no layer, so that no architecture lacks what they need."""

__all__ = ["DEFAULT_METHOD", "FIT_EVERY_NET", "METHODS", "AttributionMethod", "attribute"]
