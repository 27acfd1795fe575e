"""How good is a network? Probes of its features, neighbours among them, and fine-tuning; pictures of what is found.

All accuracies are fractions in [0, 1].
"""

from rela_zoo.analysis.evaluate._features import extract_features, standardise
from rela_zoo.analysis.evaluate._fine_tune import FineTuning, fine_tune
from rela_zoo.analysis.evaluate._judge import Evaluation, evaluate
from rela_zoo.analysis.evaluate._pictures import in_two_dimensions, save_pictures, scatter
from rela_zoo.analysis.evaluate._probes import (
    FewLabelResult,
    LinearProbe,
    few_label_probe,
    fit_linear_probe,
    knn_accuracy,
    linear_probe,
)

__all__ = [
    "Evaluation",
    "FewLabelResult",
    "FineTuning",
    "LinearProbe",
    "evaluate",
    "extract_features",
    "few_label_probe",
    "fine_tune",
    "fit_linear_probe",
    "in_two_dimensions",
    "knn_accuracy",
    "linear_probe",
    "save_pictures",
    "scatter",
    "standardise",
]
