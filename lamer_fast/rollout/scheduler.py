"""TrialScheduler: the state machine that plays M trials with one sampler and one batch of boards.

It never waits for a whole batch: trials whose replies are there are stepped together and sent back at once,
and finished trials leave. Where the environment plays turns by itself (`submit` and `poll`), sampling of the
other trials goes on meanwhile. Axis letters: M trials, K episodes, B trials of one call.

    FIRST -> TURN -> ... -> TURN -+-> success, or the last episode is over: the trial leaves
              ^                   |
              |                   +-> REFLECTION -> EPISODE -+   (without reflections: EPISODE at once)
              +----------------------------------------------+
"""

from collections.abc import Sequence as Seq
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lamer_fast.agent.agent import Agent, Ask
from lamer_fast.agent.memory import Memory
from lamer_fast.config import RolloutConfig
from lamer_fast.envs.protocol import TextBatchEnv, TurnOut
from lamer_fast.rng import turn_seeds
from lamer_fast.rollout.boards import Boards
from lamer_fast.rollout.guard import EnvGuard
from lamer_fast.rollout.sequence import Sequence
from lamer_fast.rollout.trial_batch import Phase, TrialBatch
from lamer_fast.rollout.turn_table import TurnTable
from lamer_fast.samplers.protocol import Completion, Request, Sampler, Sampling
from lamer_fast.spans import span
from lamer_fast.text import shortest

Trials = NDArray[np.int64]
OVER = -1  # status of a trial that asks nothing more; the others are `Ask`
MAX_WAIT_S = 1.0  # for an environment, while nothing is there to sample


class Answer(NamedTuple):
    """What was sampled for a trial whose turn is not over yet."""

    completion: Completion
    reply: str
    token_start: int


class TrialScheduler:
    """Trial m plays on board m of `env`. Call `advance` until it returns False, then `result`.

    Args:
        seed: of all sampling; a request's seed is a function of (seed, number of its trial among all
            ranks', number of its turn) only.
        sampling: None is training's, `rollout.temperature` alone.
        num_recorded: trials 0..num_recorded-1 are written down as text, see `transcripts`.
    """

    def __init__(
        self,
        sampler: Sampler,
        env: TextBatchEnv,
        agent: Agent,
        boards: Boards,
        rollout: RolloutConfig,
        *,
        seed: int,
        sampling: Sampling | None = None,
        num_recorded: int = 0,
    ) -> None:
        M, K = len(boards), rollout.episodes
        if env.num_envs < M:
            raise ValueError(f"{M} trials need as many boards, the environment has {env.num_envs}")
        self.sampler, self.agent, self.boards, self.rollout = sampler, agent, boards, rollout
        # a text beyond this many characters has more tokens than any sequence
        self.sampling = sampling or Sampling(rollout.temperature)
        self.env = EnvGuard(env, max_chars=sampler.max_sequence_tokens * agent.renderer.max_token_chars + 1)
        self.success_by_episode = np.zeros((M, K), bool)
        self.num_sampled = 0  # tokens
        self._table = TurnTable(M, K * rollout.max_turns + K - 1)
        self._sequences: list[list[Sequence]] = [[] for _ in range(M)]
        self._memories = [Memory() for _ in range(M)]
        self._episode = np.zeros(M, np.int16)
        self._turn = np.zeros(M, np.int16)
        self._status = np.full(M, Ask.FIRST, np.int8)  # what was asked last, or OVER
        self._anchors = np.zeros(M, np.int64)  # of the state before the turn that is asked for
        self._seed = seed
        self._shown = [""] * M
        self._answered: dict[int, Answer] = {}  # by trial, in the order of their completions
        self._records: list[list[dict[str, Any]]] = [[] for _ in range(min(num_recorded, M))]
        self._end_id = int(agent.renderer.end_ids[0])
        self._task = np.zeros(M, np.uint64)
        self._begin()

    def _begin(self) -> None:
        """Every trial from its start."""
        self.env.reset(self.boards.seeds)
        self._task = self.env.tasks(self.boards.seeds)
        trials = np.arange(len(self.boards))
        texts = self.env.observe(trials)
        asked = self.env.task_texts(trials)
        for memory, text, task in zip(self._memories, texts, asked, strict=True):
            memory.start_board, memory.task = text, task
        self._ask(Ask.FIRST, trials, texts)

    @property
    def live(self) -> NDArray[np.bool_]:
        """[M] True for trials that are still being played."""
        return np.asarray(self._status != OVER)

    @property
    def _reflecting(self) -> NDArray[np.bool_]:
        return np.asarray(self._status == Ask.REFLECTION)

    def advance(self) -> bool:
        """One engine step and everything that follows from it. False when no trial is left."""
        if self.live.any():
            with span("engine step"):
                completions = self.sampler.poll() if len(self._answered) < self.live.sum() else []
            with span("turns"):
                if completions:
                    self._answer(completions)
                thinking = (
                    len(self._answered) < self.live.sum() or self._reflecting[list(self._answered)].any()
                )
                self._receive(*self.env.poll(0.0 if thinking else MAX_WAIT_S))
        return bool(self.live.any())

    def abandon(self) -> None:
        """Frees the sampler of the trials that are still being played."""
        for trial in np.flatnonzero(self.live):
            self.sampler.cancel(int(trial))
            self.sampler.release(int(trial))

    def _answer(self, completions: Seq[Completion]) -> None:
        """Keeps what was sampled, and begins the turns that are played by it."""
        for completion in completions:
            if completion.error is not None:
                self._unanswered(completion)
        completions = [completion for completion in completions if completion.error is None]
        replies = self.agent.renderer.texts([completion.token_ids for completion in completions])
        for completion, reply in zip(completions, replies, strict=True):
            sequence = self._sequences[completion.id][-1]
            self._answered[completion.id] = Answer(completion, reply, sequence.length)
            sequence.extend(completion.token_ids, completion.logprobs)
            self.num_sampled += len(completion.token_ids)
        trials = np.array([c.id for c in completions if self._status[c.id] != Ask.REFLECTION], np.int64)
        self.env.submit([self._answered[t].reply for t in trials.tolist()], trials, self._anchors[trials])

    def _unanswered(self, completion: Completion) -> None:
        """A trial without a reply is lost; one whose prompt the model cannot read ends as truncated."""
        trial = completion.id
        if completion.too_long and self._table.num_turns[trial]:
            self._table.truncate(trial)
        else:
            self.env.errors.setdefault(trial, str(completion.error))
        self._leave(np.array([trial]))

    def _receive(self, played: Trials, out: TurnOut) -> None:
        """Turns that are over: those of `played`, and every reflection that was sampled."""
        is_over = self._reflecting
        is_over[played] = True
        trials = np.array([t for t in self._answered if is_over[t]], np.int64)
        if len(trials) == 0:
            return
        answers = [self._answered.pop(t) for t in trials.tolist()]
        replies = [answer.reply for answer in answers]
        B, play = len(trials), ~self._reflecting[trials]
        rewards, valid = np.zeros(B, np.float32), np.zeros(B, bool)
        env_done, truncated, success = np.zeros(B, bool), np.zeros(B, bool), np.zeros(B, bool)
        row_of = {t: row for row, t in enumerate(played.tolist())}
        rows = [row_of[t] for t in trials[play].tolist()]
        rewards[play], valid[play] = out.rewards[rows], out.valid[rows]
        env_done[play], truncated[play], success[play] = (
            out.done[rows],
            out.truncated[rows],
            out.success[rows],
        )
        for b in np.flatnonzero(~play):
            valid[b] = self.agent.reflection(replies[b])[1]
        ended = play & (env_done | (self._turn[trials] + 1 >= self.rollout.max_turns))

        self._table.append(
            trials,
            episode=self._episode[trials],
            turn=self._turn[trials],
            phase=np.where(play, Phase.PLAY, Phase.REFLECT),
            rewards=rewards,
            anchors=np.where(play, self._anchors[trials], 0),
            valid=valid,
            done=ended,
            success=success,
            truncated=truncated | (ended & ~env_done),
            sequence=np.array([len(self._sequences[t]) - 1 for t in trials]),
            token_start=np.array([answer.token_start for answer in answers]),
            token_end=np.array([answer.token_start + len(answer.completion.token_ids) for answer in answers]),
            policy_version=np.array([answer.completion.policy_version for answer in answers]),
        )
        self.success_by_episode[trials[success], self._episode[trials[success]]] = True
        if self._records:
            self._record(trials, replies)
        self._go_on(trials, replies, play, ended, success)

    def _go_on(
        self,
        trials: Trials,
        replies: Seq[str],
        play: NDArray[np.bool_],
        ended: NDArray[np.bool_],
        success: NDArray[np.bool_],
    ) -> None:
        """What follows for each trial: another turn, a reflection, another episode, or nothing."""
        lost = np.isin(trials, list(self.env.errors))
        over = ended & (lost | success | (self._episode[trials] + 1 >= self.rollout.episodes))
        status = np.where(play, Ask.TURN, Ask.EPISODE)
        status[ended] = Ask.REFLECTION if self.rollout.reflect else Ask.EPISODE
        status[over] = OVER
        self._status[trials] = status

        after_turn = np.flatnonzero(play & ~over)
        boards = self.env.observe(trials[after_turn])
        if self.agent.keeps_memory:
            for b, board in zip(after_turn, boards, strict=True):
                self.agent.remember_turn(self._memories[trials[b]], replies[b], board)
            for b in np.flatnonzero(~play):
                self.agent.remember_reflection(self._memories[trials[b]], replies[b])
        board_of = dict(zip(trials[after_turn].tolist(), boards, strict=True))

        failed = trials[ended & ~over]  # their next turn is of the next episode, a reflection too
        self._episode[failed] += 1
        self._turn[failed] = 0
        again, reflecting, starting = (
            trials[status == ask] for ask in (Ask.TURN, Ask.REFLECTION, Ask.EPISODE)
        )
        self._turn[again] += 1
        self.env.restart(starting)
        self._leave(trials[over])
        self._ask(Ask.TURN, again, [board_of[t] for t in again.tolist()])
        self._ask(Ask.REFLECTION, reflecting, [board_of[t] for t in reflecting.tolist()])
        last_boards = [board_of.get(t, "") for t in starting.tolist()]
        for t in starting:
            self._memories[t].episodes.append([])
        self._ask(Ask.EPISODE, starting, self.env.observe(starting), last_boards)

    def _ask(self, ask: Ask, trials: Trials, boards: Seq[str], last_boards: Seq[str] | None = None) -> None:
        """Send each trial's prompt, `boards` being what it shows; trials that are lost or too long leave."""
        if len(trials) == 0:
            return
        if ask != Ask.REFLECTION:
            self._anchors[trials] = self.env.anchors(trials, boards)
        lists = ask != Ask.REFLECTION and self.agent.shows_actions
        prompts = self.agent.ids(
            ask,
            [self._memories[t] for t in trials],
            self._episode[trials].tolist(),
            boards,
            last_boards or [""] * len(trials),
            self.env.legal_actions(trials) if lists else None,
        )
        seeds = turn_seeds(self._seed, self.boards.trial[trials], self._table.num_turns[trials])
        opens = self.agent.starts_sequence(ask)
        for t, prompt, board, seed in zip(trials.tolist(), prompts, boards, seeds.tolist(), strict=True):
            if t in self.env.errors:
                self._leave(np.array([t]))
                continue
            self._shown[t] = board
            self._submit(ask, t, prompt, seed, opens)

    def _submit(self, ask: Ask, trial: int, prompt: NDArray[np.int32], seed: int, opens: bool) -> None:
        limit = self.sampler.max_sequence_tokens
        reflects = ask == Ask.REFLECTION
        max_tokens = self._max_tokens(reflects)
        sequences = self._sequences[trial]
        sequence = Sequence() if opens else sequences[-1]
        cut = not opens and sequence.tokens[-1] != self._end_id  # the reply did not end by itself
        length = sequence.length + cut + len(prompt)
        if length + max_tokens > limit:
            if ask == Ask.FIRST:
                self.env.errors[trial] = (
                    f"a first prompt of {length} tokens + a reply of {max_tokens} exceed "
                    f"max_sequence_tokens {limit}"
                )
            else:
                self._table.truncate(trial)
            self._leave(np.array([trial]))
            return
        if opens:
            sequences.append(sequence)
        if cut:
            sequence.extend(self.agent.renderer.end_ids)
        sequence.extend(prompt)
        self._request(trial, seed, reflects)

    def _max_tokens(self, reflects: bool) -> int:
        return self.rollout.max_reflection_tokens if reflects else self.rollout.max_reply_tokens

    def _request(self, trial: int, seed: int, reflects: bool) -> None:
        """Asks for what follows the trial's tokens."""
        tokens, episode = self._sequences[trial][-1].tokens, int(self._episode[trial])
        limit, stop_ids = self._max_tokens(reflects), self.agent.renderer.stop_ids
        asked = Request(trial, trial, tokens, seed, limit, stop_ids, self.sampling, reflects, episode)
        self.sampler.submit(asked)

    def _leave(self, trials: Trials) -> None:
        """Nothing more is asked for these trials; of one that its environment lost, nothing is kept."""
        for t in trials.tolist():
            if t in self.env.errors:
                self._table.clear(t)
                self._sequences[t].clear()
                self.success_by_episode[t] = False
            self.sampler.release(t)
        self._status[trials] = OVER

    def _record(self, trials: Trials, replies: Seq[str]) -> None:
        columns = self._table.columns
        for t, reply in zip(trials.tolist(), replies, strict=True):
            if t >= len(self._records):
                continue
            row = self._table.num_turns[t] - 1
            turn: dict[str, Any] = {"phase": Phase(columns["phase"][t, row]).name.lower()}
            turn |= {name: columns[name][t, row].item() for name in ("episode", "turn")}
            turn |= {"board": self._shown[t], "reply": reply, "reward": shortest(columns["rewards"][t, row])}
            turn |= {name: columns[name][t, row].item() for name in ("valid", "done", "success")}
            self._records[t].append(turn)

    def transcripts(self) -> list[dict[str, Any]]:
        """One record per recorded trial and per lost one, ready for JSON; the latter says why in `error`."""
        lost = [t for t in sorted(self.env.errors) if t >= len(self._records)]
        return [self._transcript(t) for t in (*range(len(self._records)), *lost)]

    def _transcript(self, trial: int) -> dict[str, Any]:
        record = {
            "group": int(self.boards.group[trial]),
            "trial": int(self.boards.trial[trial]),
            "task": int(self._task[trial]),
            "seed": int(self.boards.seeds[trial]),
            "success_by_episode": self.success_by_episode[trial].tolist(),
            "turns": self._records[trial] if trial < len(self._records) else [],
        }
        more = {"task_text": self._memories[trial].task, "error": self.env.errors.get(trial)}
        return record | {key: text for key, text in more.items() if text}

    def result(self) -> TrialBatch:
        if self.live.any():
            raise ValueError(f"{self.live.sum()} trials are still being played, must be 0")
        sequences = [sequence for trial in self._sequences for sequence in trial]
        cu_seqlens = np.concatenate(([0], np.cumsum([s.length for s in sequences], dtype=np.int64)))
        first_sequence = np.concatenate(([0], np.cumsum([len(s) for s in self._sequences])))[:-1]
        flat = self._table.flat()
        flat["sequence"] = (flat["sequence"] + first_sequence[flat["trial"]]).astype(np.int32)
        for name in ("token_start", "token_end"):
            flat[name] = flat[name] + cu_seqlens[flat["sequence"]]
        return TrialBatch(
            tokens=np.concatenate([s.tokens for s in sequences] or [np.zeros(0, np.int32)]),
            loss_mask=np.concatenate([s.loss_mask for s in sequences] or [np.zeros(0, bool)]),
            rollout_logprobs=np.concatenate([s.logprobs for s in sequences] or [np.zeros(0, np.float32)]),
            cu_seqlens=cu_seqlens,
            group=self.boards.group[flat["trial"]],
            **flat,
            seed=self.boards.seeds,
            task=self._task,
            success_by_episode=self.success_by_episode,
            errors=dict(self.env.errors),
        )
