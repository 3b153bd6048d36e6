"""multidrift: simulate equations with an expensive drift with far fewer expensive evaluations."""

from multidrift import schedules
from multidrift.basics.errors import MultidriftError
from multidrift.drifts.conditioning import shared
from multidrift.drifts.covariance import DriftCovariance
from multidrift.drifts.denoiser import Denoiser
from multidrift.drifts.gaussian import GaussianDenoiser
from multidrift.drifts.gradient import LangevinDrift, potential
from multidrift.drifts.ladder import Ladder
from multidrift.methods.advice import PlanWarning
from multidrift.methods.catalogue import method_from_dict
from multidrift.methods.euler import Euler
from multidrift.methods.ladder_multistep.walk import LadderMultistep
from multidrift.methods.ladder_multistep.weights import CellWeights
from multidrift.methods.method import Method
from multidrift.methods.multilevel.walk import Multilevel
from multidrift.methods.multistep import Multistep
from multidrift.methods.picard.forecast import Forecast, critical_path, forecasts
from multidrift.methods.picard.piadm import piadm
from multidrift.methods.picard.predictor_corrector import PredictorCorrector
from multidrift.methods.picard.walk import Coarse, ConvergenceWarning, Picard
from multidrift.methods.poisson.variants import pmm_variant, recommended_variant
from multidrift.methods.poisson.walk import PoissonMidpoint
from multidrift.planning.allocate import Allocation, allocate
from multidrift.planning.auto import Choice, auto
from multidrift.planning.calibrate import calibrate
from multidrift.planning.calibration import Calibration, CalibrationWarning
from multidrift.planning.learn import LearnedPlan, learn_plan
from multidrift.planning.memorise import MemorisedPlan, memorise_plan
from multidrift.planning.worth import Worth, worth
from multidrift.processes.diffusion import Diffusion
from multidrift.processes.langevin import Overdamped, Underdamped
from multidrift.runs.marginals import RunWarning
from multidrift.runs.plan import Plan
from multidrift.runs.result import Result, State
from multidrift.sampling import sample, steps
from multidrift.schedules.grids import grid_times
from multidrift.targets.logistic import LogisticRegression, PosteriorReference, breast_cancer_posterior
from multidrift.targets.mixture import GaussianMixture
from multidrift.targets.synthetic import SyntheticLadder

__version__ = "0.1.0"

__all__ = [
    "Allocation",
    "Calibration",
    "CalibrationWarning",
    "CellWeights",
    "Choice",
    "Coarse",
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
    "LearnedPlan",
    "LogisticRegression",
    "MemorisedPlan",
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
    "SyntheticLadder",
    "Underdamped",
    "Worth",
    "allocate",
    "auto",
    "breast_cancer_posterior",
    "calibrate",
    "critical_path",
    "forecasts",
    "grid_times",
    "learn_plan",
    "memorise_plan",
    "method_from_dict",
    "piadm",
    "pmm_variant",
    "potential",
    "recommended_variant",
    "sample",
    "schedules",
    "shared",
    "steps",
    "worth",
]
