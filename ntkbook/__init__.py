"""The Neural Tangent Kernel, derived and measured: the package behind the executable textbook.

Data flows one way: from a network to its kernel, to its dynamics, to what is predicted.  Importing the
package changes no setting of JAX or matplotlib.
"""

from ntkbook.checks import Check, CheckError, Report, check, report
from ntkbook.derivation import Derivation, DerivationError, Expectation
from ntkbook.figures import COLORS, Figure, figure
from ntkbook.settings import Settings, setup

__version__ = "0.1.0"
