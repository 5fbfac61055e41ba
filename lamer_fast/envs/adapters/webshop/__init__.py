"""WebShop in this process, without web server, JVM or tagger. `entry.py` is what the trainer sees."""

from lamer_fast.envs.adapters.webshop.entry import ENTRY as ENTRY
