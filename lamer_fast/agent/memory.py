"""What a trial remembers as text, for the contexts that write earlier episodes into a fresh prompt."""

from dataclasses import dataclass, field

from lamer_fast.agent.prompts import Prompts, turn_list


@dataclass
class Memory:
    """Of one trial. An episode is its list of (action, board after it)."""

    start_board: str = ""
    episodes: list[list[tuple[str, str]]] = field(default_factory=lambda: [[]])
    reflections: list[str] = field(default_factory=list)
    task: str = ""  # what this trial's task asks, where the environment says so

    def past(self, prompts: Prompts, memory: str, num_turns: int, num_boards: int) -> str:
        """The blocks about earlier episodes, as `memory` says; empty in the first episode."""
        blocks = []
        for k, turns in enumerate(self.episodes[:-1]):
            if memory in ("reflection", "both") and k < len(self.reflections):
                blocks.append(prompts.past_reflection.format(n=k + 1, reflection=self.reflections[k]))
            if memory in ("history", "both"):
                listed = turn_list(prompts, turns, num_turns, num_boards)
                blocks.append(prompts.past_history.format(n=k + 1, history=listed))
        return prompts.gap.join(blocks)
