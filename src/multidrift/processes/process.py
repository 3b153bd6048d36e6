"""What is simulated: one affine equation dz = D dτ + dW(v), and the grid it is walked along."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from numpy.typing import ArrayLike
from torch import Tensor

from multidrift.basics.checks import Settings
from multidrift.basics.numbers import Floats
from multidrift.noise.lattice import Lattice, Places
from multidrift.processes.intervals import Intervals
from multidrift.processes.predictions import Prediction
from multidrift.schedules.grids import Grid
from multidrift.schedules.schedule import Schedule


class Process(Settings):
    """An equation whose linear part is solved exactly; a drift D is held over each step.

    A process is also the noise clock of its Brownian path (`lattice`, `components`, `rotation`, `reach`).
    """

    has_velocity: ClassVar[bool] = False  # whether states are pairs (position, velocity) on their last axis
    final_calls: ClassVar[int] = 0  # evaluations after the last step
    sample_is_called: ClassVar[str] = "chain"  # in errors

    @property
    @abstractmethod
    def components(self) -> int:
        """How many normals make the noise of an interval."""

    @abstractmethod
    def rotation(self, low: Places, middle: Places, high: Places) -> Floats:
        """See `NoiseClock.rotation`."""

    @abstractmethod
    def reach(self, low: Places, high: Places, first: Places, last: Places) -> Floats:
        """See `NoiseClock.reach`."""

    @property
    @abstractmethod
    def lattice(self) -> Lattice:
        """The lattice that the Brownian path is built on."""

    @property
    @abstractmethod
    def drift_is(self) -> Prediction:
        """What D is, as a prediction of the model."""

    @property
    @abstractmethod
    def noisy(self) -> bool:
        """Whether the equation has noise at all."""

    @property
    @abstractmethod
    def model_schedule(self) -> Schedule | None:
        """The schedule a model must have; None for models without one."""

    @property
    def preconditioning(self) -> Floats | None:
        """A factor on each coordinate of D, its root on the noise; None for 1."""
        return None

    @property
    @abstractmethod
    def own_grid(self) -> Grid:
        """The grid of a method that names none."""

    @abstractmethod
    def nodes(self, steps: int, grid: Grid, *, integer: bool) -> Floats:
        """The times of a grid of `steps` evaluations before any final one, and the end."""

    @abstractmethod
    def nodes_through(self, times: Sequence[float], *, integer: bool) -> Floats:
        """The times of a grid with these evaluation times, and the end; raises where they do not suit the process."""

    @abstractmethod
    def refined(self, nodes: Floats, grid: Grid | None, substeps: int) -> Floats:
        """The grid with every step cut into `substeps`; `grid` None: one of explicit times."""

    @abstractmethod
    def relative_steps(self, nodes: Floats) -> Floats:
        """A length for each step of a grid, in (0, 1]: the share of the state, or of the run, that it stands for."""

    @abstractmethod
    def place(self, t: ArrayLike) -> Floats:
        """Lattice coordinates of times."""

    @abstractmethod
    def time(self, place: ArrayLike) -> Floats:
        """The times of lattice coordinates."""

    @abstractmethod
    def intervals(self, start: ArrayLike, stop: ArrayLike, anchor: ArrayLike | None = None) -> Intervals:
        """The steps from times `start` to times `stop`, with coordinates scaled to `anchor` (None: to `stop`)."""

    @abstractmethod
    def start_std(self, t: float) -> float:
        """Standard deviation of a drawn start."""

    @property
    def velocity_std(self) -> float | Floats:
        """Standard deviation of drawn velocities, a number or one a coordinate; of processes that have them."""
        return 0.0

    @abstractmethod
    def noise_size(self, times: Floats) -> Floats:
        """The size of the noise in a state at each time of a grid: what a change of the state is compared with."""

    def position(self, states: Tensor) -> Tensor:
        """What the model sees of states [n, …], and what samples are."""
        return states

    def velocity(self, states: Tensor) -> Tensor | None:
        """What states hold beside their positions."""
        del states
        return None

    def joined(self, positions: Tensor, velocities: Tensor | None) -> Tensor:
        """The states with these positions and velocities."""
        del velocities
        return positions

    def lift(self, drift: Tensor, t: float | Floats) -> Tensor:
        """D of the straightened coordinate from the model's at time t (or times [n]), to multiply Δτ."""
        del t
        return drift

    @abstractmethod
    def to_dict(self) -> dict[str, object]:
        """The settings as plain values."""
