"""Settings: the sections, and how a recipe and the command line become one configuration. No torch here."""

from lamer_fast.config.schema import Config
from lamer_fast.config.sections import (
    AlgoConfig,
    EvalConfig,
    LearnConfig,
    ModelConfig,
    RolloutConfig,
    TrainConfig,
)

__all__ = ["AlgoConfig", "Config", "EvalConfig", "LearnConfig", "ModelConfig", "RolloutConfig", "TrainConfig"]
