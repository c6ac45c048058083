"""The Neural Tangent Kernel, derived and measured: the package behind the executable textbook.

Data flows one way: from a network to its kernel, to its dynamics, to what is predicted.  Importing
the package changes no setting of JAX or matplotlib.
"""

from ntkbook.checks import Check, CheckError, check, report
from ntkbook.data import circle, digits, gaussian_inputs, sphere, toy_regression
from ntkbook.derivation import Derivation, DerivationError
from ntkbook.dynamics import (
    GradientDescent,
    GradientFlow,
    gradient_descent,
    gradient_flow,
    max_learning_rate,
)
from ntkbook.empirical import (
    count_parameters,
    empirical_ntk,
    linearize,
    ntk_vector_product,
    tangent_features,
    taylor,
)
from ntkbook.figures import COLORS, Figure, figure
from ntkbook.kernels import Kernel
from ntkbook.layers import Dense, Elementwise, Erf, Relu, Residual, Serial, Sin, Tanh
from ntkbook.losses import huber, logistic, mse, softmax_cross_entropy
from ntkbook.ode import flow_ode
from ntkbook.settings import Settings, setup
from ntkbook.spectra import (
    Modes,
    circle_eigenvalues,
    condition_number,
    effective_dimension,
    fit_decay,
    fit_rate,
    modes,
)
from ntkbook.training import Run, train

__version__ = "0.1.0"
__all__ = [
    "COLORS",
    "Check",
    "CheckError",
    "Dense",
    "Derivation",
    "DerivationError",
    "Elementwise",
    "Erf",
    "Figure",
    "GradientDescent",
    "GradientFlow",
    "Kernel",
    "Modes",
    "Relu",
    "Residual",
    "Run",
    "Serial",
    "Settings",
    "Sin",
    "Tanh",
    "check",
    "circle",
    "circle_eigenvalues",
    "condition_number",
    "count_parameters",
    "digits",
    "effective_dimension",
    "empirical_ntk",
    "figure",
    "fit_decay",
    "fit_rate",
    "flow_ode",
    "gaussian_inputs",
    "gradient_descent",
    "gradient_flow",
    "huber",
    "linearize",
    "logistic",
    "max_learning_rate",
    "modes",
    "mse",
    "ntk_vector_product",
    "report",
    "setup",
    "softmax_cross_entropy",
    "sphere",
    "tangent_features",
    "taylor",
    "toy_regression",
    "train",
]
