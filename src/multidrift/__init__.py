"""multidrift: simulate equations with an expensive drift with far fewer expensive evaluations."""

from multidrift.drifts.conditioning import shared
from multidrift.drifts.covariance import DriftCovariance
from multidrift.drifts.denoiser import Denoiser
from multidrift.drifts.gaussian import GaussianDenoiser
from multidrift.drifts.ladder import Ladder
from multidrift.drifts.langevin import LangevinDrift, potential
from multidrift.drifts.regression import LogisticRegression, PosteriorReference, breast_cancer_posterior
from multidrift.drifts.targets import GaussianMixture
from multidrift.plans.advice import PlanWarning
from multidrift.plans.plan import Plan
from multidrift.processes import schedules
from multidrift.processes.diffusion import Diffusion
from multidrift.processes.errors import MultidriftError
from multidrift.processes.grids import grid_times
from multidrift.processes.langevin import Overdamped, Underdamped
from multidrift.processes.variants import pmm_variant, recommended_variant
from multidrift.samplers.cell_weights import CellWeights
from multidrift.samplers.corrector import PredictorCorrector
from multidrift.samplers.euler import Euler
from multidrift.samplers.forecast import Forecast, critical_path, forecasts
from multidrift.samplers.ladder_multistep import LadderMultistep
from multidrift.samplers.marginals import RunWarning
from multidrift.samplers.method import Method
from multidrift.samplers.methods import method_from_dict
from multidrift.samplers.multilevel import Multilevel
from multidrift.samplers.multistep import Multistep
from multidrift.samplers.piadm import piadm
from multidrift.samplers.picard import ConvergenceWarning, Picard
from multidrift.samplers.poisson import PoissonMidpoint
from multidrift.samplers.result import Result, State
from multidrift.samplers.sample import sample, steps

__version__ = "0.1.0"

__all__ = [
    "CellWeights",
    "ConvergenceWarning",
    "Denoiser",
    "Diffusion",
    "DriftCovariance",
    "Euler",
    "Forecast",
    "GaussianDenoiser",
    "GaussianMixture",
    "Ladder",
    "LadderMultistep",
    "LangevinDrift",
    "LogisticRegression",
    "Method",
    "MultidriftError",
    "Multilevel",
    "Multistep",
    "Overdamped",
    "Picard",
    "Plan",
    "PlanWarning",
    "PoissonMidpoint",
    "PosteriorReference",
    "PredictorCorrector",
    "Result",
    "RunWarning",
    "State",
    "Underdamped",
    "breast_cancer_posterior",
    "critical_path",
    "forecasts",
    "grid_times",
    "method_from_dict",
    "piadm",
    "pmm_variant",
    "potential",
    "recommended_variant",
    "sample",
    "schedules",
    "shared",
    "steps",
]
