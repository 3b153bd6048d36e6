"""Several processes: who they are, whether they agree, and rows of one run spread over them."""

from multidrift.distributed.world import World, agree, joined

__all__ = ["World", "agree", "joined"]
