"""Several processes: who they are, whether they agree, and rows of one run spread over them."""

from multidrift.distributed.latency import Latency, Link, latency, measured_link, round_latency
from multidrift.distributed.spread import Spread, spread
from multidrift.distributed.world import World, agree, joined

__all__ = [
    "Latency",
    "Link",
    "Spread",
    "World",
    "agree",
    "joined",
    "latency",
    "measured_link",
    "round_latency",
    "spread",
]
