"""The Neural Tangent Kernel, derived and measured: the package behind the executable textbook.

Data flows one way, and the folders are read in its order; each imports only from those before it.

===============  ===================================================================================
folder           what it holds
===============  ===================================================================================
`notation`       expressions in lines that fit a page, pictures in words
`values`         where an expression is defined, and what it is worth there
`algebra`        what the computer-algebra system decides, and a second witness for all of it
`evidence`       derivations that prove their steps, checks with declared bounds, figures that
                 describe themselves
`gaussian`       what a nonlinearity does to a Gaussian pair: closed forms (`duals`), `quadrature`
`signals`        what travels through an infinitely wide network: two variances, an angle, the
                 tangent kernel, tile by tile
`networks`       layers with `init`, `apply` and `kernel`: dense, containers, activations, dropout
`architectures`  layers beyond the dense one: convolution, pooling, normalisation, recurrence,
                 graphs, attention
`checking`       `check_layer`: a layer's kernel beside those of sampled networks
`tangents`       finite networks: `linearize`, `empirical_ntk`, tangent features, sampled kernels
`training`       modes, flow and descent in closed form, any loss by ODE, ensembles, regression,
                 runs
`theory`         what the kernel decides: spectra on circle and sphere, order, chaos and depth,
                 learning curves
`diagnosis`      what `diagnose` measures: products with the kernel, the path of either loss
top level        where a user starts: `setup`, data sets, `diagnose` for a network of one's own,
                 `ntkbook.estimators` for scikit-learn
===============  ===================================================================================

Importing the package changes no setting of JAX or matplotlib.
"""

from typing import TYPE_CHECKING

from ntkbook._base.hints import absent
from ntkbook.evidence.checks import Check, CheckError, check, report
from ntkbook.evidence.derivation import Derivation, DerivationError
from ntkbook.evidence.figures import COLORS, Figure, figure

from ntkbook.gaussian import duals, quadrature

from ntkbook.signals.signal import Kernel
from ntkbook.networks.layer import Layer
from ntkbook.networks.dense import Dense
from ntkbook.networks.containers import Residual, Serial
from ntkbook.networks.dropout import Dropout
from ntkbook.networks.activations import (
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

from ntkbook.architectures.attention import Attention
from ntkbook.architectures.drawn_attention import attention_monte_carlo
from ntkbook.architectures.convolution import Conv, Flatten
from ntkbook.architectures.graphs import Aggregate
from ntkbook.architectures.graph_kernels import graph_kernel, on_graph
from ntkbook.architectures.normalisation import LayerNorm
from ntkbook.architectures.pooling import AvgPool, GlobalAveragePool, GlobalSumPool
from ntkbook.architectures.recurrent import LastStep, Recurrent

from ntkbook.checking.check_layer import LayerError, LayerReport, check_layer

from ntkbook.tangents.features import count_parameters, tangent_features
from ntkbook.tangents.costs import Cost, costs
from ntkbook.tangents.empirical import empirical_ntk, ntk_vector_product
from ntkbook.tangents.shares import empirical_shares
from ntkbook.tangents.taylor import linearize, taylor
from ntkbook.tangents.monte_carlo import KernelEstimate, monte_carlo_kernel

from ntkbook.training.losses import huber, logistic, mse, softmax_cross_entropy
from ntkbook.training.modes import Modes, modes
from ntkbook.training.flow import GradientFlow, gradient_flow
from ntkbook.training.descent import GradientDescent, gradient_descent, max_learning_rate
from ntkbook.training.regression import Regression, regression
from ntkbook.training.ode import flow_ode
from ntkbook.training.runs import Run, train

from ntkbook.theory.decay import (
    PowerLaw,
    condition_number,
    effective_dimension,
    fit_decay,
    fit_power_law,
    fit_rate,
)
from ntkbook.theory.circle import circle_eigenvalues
from ntkbook.theory.fixed_points import FixedPoints, fixed_points
from ntkbook.theory.mean_field import MeanField, chi, correlation_map, mean_field, variance_map
from ntkbook.theory.critical import (
    CriticalPoint,
    EndPoint,
    critical_line,
    critical_point,
    end_point,
    half_stable_points,
)
from ntkbook.theory.depth import (
    DeepSignal,
    DepthLaws,
    correlation_expansion,
    deep_signal,
    depth_laws,
)
from ntkbook.theory.profile import (
    EndpointCoefficients,
    hermite_coefficients,
    kernel_profile,
    relu_endpoints,
)
from ntkbook.theory.sphere import (
    index_spectrum,
    multiplicities,
    power_eigenvalues,
    series_eigenvalues,
    sphere_eigenvalues,
)
from ntkbook.theory.effective_ridge import Eigenlearning
from ntkbook.theory.eigenlearning import eigenlearning, measured_learnability
from ntkbook.theory.random_features import random_features
from ntkbook.theory.estimates import RiskEstimates, risk_estimates
from ntkbook.theory.least_squares import least_squares_limit, least_squares_risk

from ntkbook.data import circle, digits, gaussian_inputs, sphere, toy_regression
from ntkbook.diagnose import Diagnosis, diagnose
from ntkbook.settings import Settings, setup

__version__ = "0.1.0"
__all__ = [
    # evidence
    "Derivation", "DerivationError", "Check", "CheckError", "check", "report",
    "Figure", "figure", "COLORS",
    # gaussian
    "duals", "quadrature",
    # networks
    "Layer", "Dense", "Serial", "Residual", "Dropout", "Kernel",
    "Abs", "Cos", "Elementwise", "Erf", "Exp", "Gaussian", "Gelu", "LeakyRelu", "Polynomial", "Rbf",
    "RectifiedPower", "Relu", "Sin", "Tanh",
    # architectures
    "Attention", "attention_monte_carlo",
    "Conv", "Flatten", "AvgPool", "GlobalAveragePool", "GlobalSumPool", "Aggregate",
    "graph_kernel", "on_graph", "LayerNorm", "Recurrent", "LastStep",
    # checking
    "LayerError", "LayerReport", "check_layer",
    # tangents
    "count_parameters", "tangent_features", "Cost", "costs", "empirical_ntk", "empirical_shares",
    "ntk_vector_product", "linearize", "taylor", "KernelEstimate", "monte_carlo_kernel",
    # training
    "mse", "huber", "logistic", "softmax_cross_entropy", "Modes", "modes",
    "GradientFlow", "gradient_flow", "GradientDescent", "gradient_descent", "max_learning_rate",
    "Regression", "regression", "flow_ode", "Run", "train",
    # theory
    "condition_number", "effective_dimension", "fit_decay", "fit_rate", "fit_power_law", "PowerLaw",
    "circle_eigenvalues", "sphere_eigenvalues", "series_eigenvalues", "power_eigenvalues",
    "multiplicities", "index_spectrum", "kernel_profile", "hermite_coefficients", "relu_endpoints",
    "EndpointCoefficients",
    "Eigenlearning", "eigenlearning", "measured_learnability", "random_features",
    "RiskEstimates", "risk_estimates", "least_squares_limit", "least_squares_risk",
    "variance_map", "correlation_map", "chi", "FixedPoints", "fixed_points", "MeanField",
    "mean_field", "CriticalPoint", "critical_line", "critical_point", "half_stable_points",
    "correlation_expansion", "DeepSignal", "deep_signal", "DepthLaws", "depth_laws", "EndPoint",
    "end_point",
    # where a user starts
    "Settings", "setup", "circle", "digits", "gaussian_inputs", "sphere", "toy_regression",
    "diagnose", "Diagnosis",
]  # fmt: skip

if not TYPE_CHECKING:  # which would take any name for one of the package

    def __getattr__(name: str) -> object:
        raise AttributeError(absent(name))
