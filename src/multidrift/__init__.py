"""multidrift: simulate equations with an expensive drift with far fewer expensive evaluations."""

from multidrift import distributed, integrations, schedules
from multidrift.basics.errors import MultidriftError
from multidrift.basics.version import __version__ as __version__
from multidrift.drifts import conventions
from multidrift.drifts.conditioning import shared
from multidrift.drifts.covariance import DriftCovariance
from multidrift.drifts.denoiser import Denoiser
from multidrift.drifts.gaussian import GaussianDenoiser
from multidrift.drifts.gradient import LangevinDrift, potential
from multidrift.drifts.ladder import Ladder
from multidrift.generation.generate import Generation, generate
from multidrift.generation.metrics import Estimate, Metrics
from multidrift.generation.read import read_samples, verify_samples
from multidrift.methods.advice import PlanWarning
from multidrift.methods.catalogue import method_from_dict
from multidrift.methods.euler import Euler
from multidrift.methods.forecasts import forecasts
from multidrift.methods.ladder_multistep.nodes import CellNodes
from multidrift.methods.ladder_multistep.walk import LadderMultistep
from multidrift.methods.ladder_multistep.weights import CellWeights
from multidrift.methods.method import GridMethod, Method
from multidrift.methods.multilevel.walk import Multilevel
from multidrift.methods.multistep import Multistep
from multidrift.methods.picard.forecast import Forecast, critical_path
from multidrift.methods.picard.piadm import piadm
from multidrift.methods.picard.predictor_corrector import PredictorCorrector
from multidrift.methods.picard.walk import Coarse, ConvergenceWarning, Picard
from multidrift.methods.poisson.variants import pmm_variant, recommended_variant
from multidrift.methods.poisson.walk import PoissonMidpoint
from multidrift.methods.speculative.walk import Speculative
from multidrift.planning.allocate import Allocation, allocate
from multidrift.planning.auto import Choice, auto
from multidrift.planning.calibrate import calibrate
from multidrift.planning.calibration import Calibration, CalibrationWarning
from multidrift.planning.learn import LearnedPlan, learn_plan
from multidrift.planning.memorise import MemorisedPlan, memorise_plan
from multidrift.planning.nodes import FoundNodes, search_nodes
from multidrift.planning.rules import TheoremOne, theorem_one
from multidrift.planning.worth import Worth, worth
from multidrift.processes.diffusion import Diffusion
from multidrift.processes.langevin import Overdamped, Underdamped
from multidrift.runs.marginals import RunWarning
from multidrift.runs.plan import Plan
from multidrift.runs.result import Result, Speculation, State
from multidrift.runs.transitions import Transitions
from multidrift.sampling import sample, steps
from multidrift.schedules.grids import grid_times
from multidrift.serving.sampler import QueueFull, Sampler
from multidrift.targets.logistic import LogisticRegression, PosteriorReference, breast_cancer_posterior
from multidrift.targets.mixture import GaussianMixture
from multidrift.targets.synthetic import SyntheticLadder

__all__ = [
    "Allocation",
    "Calibration",
    "CalibrationWarning",
    "CellNodes",
    "CellWeights",
    "Choice",
    "Coarse",
    "ConvergenceWarning",
    "Denoiser",
    "Diffusion",
    "DriftCovariance",
    "Estimate",
    "Euler",
    "Forecast",
    "FoundNodes",
    "GaussianDenoiser",
    "GaussianMixture",
    "Generation",
    "GridMethod",
    "Ladder",
    "LadderMultistep",
    "LangevinDrift",
    "LearnedPlan",
    "LogisticRegression",
    "MemorisedPlan",
    "Method",
    "Metrics",
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
    "QueueFull",
    "Result",
    "RunWarning",
    "Sampler",
    "Speculation",
    "Speculative",
    "State",
    "SyntheticLadder",
    "TheoremOne",
    "Transitions",
    "Underdamped",
    "Worth",
    "allocate",
    "auto",
    "breast_cancer_posterior",
    "calibrate",
    "conventions",
    "critical_path",
    "distributed",
    "forecasts",
    "generate",
    "grid_times",
    "integrations",
    "learn_plan",
    "memorise_plan",
    "method_from_dict",
    "piadm",
    "pmm_variant",
    "potential",
    "read_samples",
    "recommended_variant",
    "sample",
    "schedules",
    "search_nodes",
    "shared",
    "steps",
    "theorem_one",
    "verify_samples",
    "worth",
]
