"""The Neural Tangent Kernel, derived and measured: the package behind the executable textbook.

Data flows one way: from a network to its kernel, to its dynamics, to what is predicted.  Importing
the package changes no setting of JAX or matplotlib.
"""

from ntkbook import duals, quadrature
from ntkbook.activations import (
    Abs,
    Cos,
    Elementwise,
    Erf,
    Exp,
    Gaussian,
    Gelu,
    LeakyRelu,
    Polynomial,
    Rbf,
    RectifiedPower,
    Relu,
    Sin,
    Tanh,
)
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
from ntkbook.layers import Dense, Residual, Serial
from ntkbook.losses import huber, logistic, mse, softmax_cross_entropy
from ntkbook.monte_carlo import KernelEstimate, monte_carlo_kernel
from ntkbook.ode import flow_ode
from ntkbook.regression import Regression, regression
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
    "Abs",
    "Check",
    "CheckError",
    "Cos",
    "Dense",
    "Derivation",
    "DerivationError",
    "Elementwise",
    "Erf",
    "Exp",
    "Figure",
    "Gaussian",
    "Gelu",
    "GradientDescent",
    "GradientFlow",
    "Kernel",
    "KernelEstimate",
    "LeakyRelu",
    "Modes",
    "Polynomial",
    "Rbf",
    "RectifiedPower",
    "Regression",
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
    "duals",
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
    "monte_carlo_kernel",
    "mse",
    "ntk_vector_product",
    "quadrature",
    "regression",
    "report",
    "setup",
    "softmax_cross_entropy",
    "sphere",
    "tangent_features",
    "taylor",
    "toy_regression",
    "train",
]
