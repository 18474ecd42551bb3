"""A small laboratory for reward models and direct preference optimization (DPO).

Data flows one way through the modules: `templates` -> `data` -> `rendering` -> `batches` -> `models` and
`losses` -> `training` -> `scoring` and `generation` -> analysis (`metrics`, `winrate`, `puzzle`) -> `figures`
-> `report`. The notebooks tell the story and call these modules; the command line is `rlhf-hw`.
"""

import os

# Threads that wait by spinning stall each other as soon as anything else runs on the machine (up to ten
# times slower on two cores); threads that sleep at once cost a quarter of the speed when nothing does.
# GNU's library, the one in torch for Linux, may spin a little first, which avoids most of both. The OpenMP
# library reads this once, so it has to be set before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

__version__ = "0.1.0"
