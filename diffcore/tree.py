"""Diffusion tree sampling and search (Jain et al. 2025): every rollout steers the next ones.

A node is a particle at one time of the reverse process; its children are draws of the next step.
Rewards of finished samples are carried back as soft values
V(x_t) = 1 / tilt log E[exp(tilt r(x_0)) | x_t], estimated by the log-mean-exp over the children.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffcore import random
from diffcore.chain import Chain
from diffcore.errors import ConfigError
from diffcore.nodes import Node, gather_clean, gather_particles
from diffcore.search import (
    Ledger,
    Reward,
    Search,
    check_window,
    draw_seed,
    need_randomness,
    usual_tilt,
)


@dataclass(frozen=True)
class Widening:
    """How many children a node may have: ``factor * visits ** exponent``, at least one.

    A small exponent makes deep trees that exploit; a large one makes many short looks.
    """

    factor: float = 1.0
    exponent: float = 0.3

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not (self.factor > 0 and 0 < self.exponent <= 1):
            raise ConfigError(
                "widening: expected a factor above 0 and an exponent above 0 and up to 1, "
                f"got {self.factor} and {self.exponent}"
            )

    def allows(self, children: int, visits: int) -> bool:
        """Whether one more child may be made."""
        return children < max(1.0, self.factor * math.pow(visits, self.exponent))


Choose = Callable[[Node, Sequence[Node], float], Node]
"""``choose(node, children, floor)``: the child to go on with; ``floor`` bounds values below."""


def tree_sampling(
    chain: Chain,
    reward: Reward,
    rng: torch.Generator,
    *,
    budget: float,
    tilt: float | None = None,
    widening: Widening | None = None,
    window: tuple[float, float] = (0.0, 1.0),
    batch: int = 8,
) -> Search:
    """Diffusion tree sampling (DTS): finished samples approach p(x) exp(tilt r(x)).

    Going down, a child is drawn in proportion to exp(tilt V). Exact in the limit of many rollouts.

    Args:
        chain: what is searched over; its method must have some randomness.
        reward: see `Reward`; taken of finished samples only.
        rng: seeds draws and choices.
        budget: network evaluations. A rollout from a node costs the steps below it.
        tilt: lambda, in units of 1 / reward; 4 / s by default, where s is the standard deviation
            of the first rewards.
        widening: how many children a node may have.
        window: shares of the steps that are left, least and most, where a node may have more than
            one child; the root always may.
        batch: rollouts made side by side: larger is faster and learns a little less from each.

    Raises:
        ConfigError: an option is outside what is allowed.
    """

    def boltzmann(node: Node, children: Sequence[Node], floor: float) -> Node:
        values = [tree.slope * _value(child, floor) for child in children]
        total = _log_sum_exp(values)
        u = float(torch.rand((), generator=choices, dtype=torch.float64))
        for child, value in zip(children, values, strict=True):
            u -= math.exp(value - total)
            if u < 0:
                return child
        return children[-1]

    choices = random.generator(draw_seed(rng))
    shape = _Shape(tilt, widening or Widening(), window, batch)
    tree = _Tree(Ledger(chain, reward, budget), draw_seed(rng), shape)
    return Search(_grow(tree, boltzmann), tree.ledger)


def tree_search(
    chain: Chain,
    reward: Reward,
    rng: torch.Generator,
    *,
    budget: float,
    tilt: float | None = None,
    widening: Widening | None = None,
    window: tuple[float, float] = (0.0, 1.0),
    exploration: float = 1.0,
    batch: int = 8,
) -> Search:
    """Diffusion tree search (DTS*): the greedy form, for one sample of high reward.

    Going down, the child with the largest V + exploration s sqrt(log N(parent) / N(child)) is taken
    (UCT; Kocsis and Szepesvari 2006), where s is the standard deviation of the rewards so far.

    Args:
        chain: what is searched over; its method must have some randomness.
        reward: see `Reward`; taken of finished samples only.
        rng: seeds draws.
        budget: network evaluations. A rollout from a node costs the steps below it.
        tilt: lambda of the soft values, in units of 1 / reward: large values follow the best
            child; 4 / s by default, where s is the standard deviation of the first rewards.
        widening: how many children a node may have.
        window: shares of the steps that are left, least and most, where a node may have more than
            one child; the root always may.
        exploration: weight of what has been visited little.
        batch: rollouts made side by side.

    Raises:
        ConfigError: an option is outside what is allowed.
    """
    if not exploration >= 0:
        raise ConfigError(f"exploration: expected 0 or more, got {exploration}")
    shape = _Shape(tilt, widening or Widening(), window, batch)
    tree = _Tree(Ledger(chain, reward, budget), draw_seed(rng), shape)

    def uct(node: Node, children: Sequence[Node], floor: float) -> Node:
        bonus = exploration * tree.spread

        def promise(child: Node) -> float:
            rare = math.sqrt(math.log(max(node.visits, 1)) / max(child.visits, 1))
            return _value(child, floor) + bonus * rare

        return max(children, key=promise)

    return Search(_grow(tree, uct), tree.ledger)


def _value(node: Node, floor: float) -> float:
    """A node's value for choosing: whatever was dropped counts as the worst, and may be retried."""
    return floor if node.value is None else max(node.value, floor)


@dataclass(frozen=True)
class _Shape:
    """How a tree grows: see `tree_sampling`."""

    tilt: float | None
    widening: Widening
    window: tuple[float, float]
    batch: int

    def __post_init__(self) -> None:
        check_window(self.window)
        if not (0 < (1.0 if self.tilt is None else self.tilt) < math.inf) or self.batch < 1:
            raise ConfigError(
                "expected a finite tilt above 0 and a batch of at least 1, "
                f"got {self.tilt} and {self.batch}"
            )


class _Tree:
    """The nodes, and how rollouts are made and carried back."""

    def __init__(self, ledger: Ledger, seed: int, shape: _Shape) -> None:
        need_randomness(ledger.chain)
        self.ledger, self.seed, self.tilt, self.widening = ledger, seed, shape.tilt, shape.widening
        self.window, self.batch, self.rollouts = shape.window, shape.batch, 0
        self.root = Node(-1)
        self.leaves: list[Node] = []
        """Finished samples that were kept, in the ledger's order."""
        self.mean, self.squares, self.worst = 0.0, 0.0, math.inf
        """Mean, sum of squared deviations and minimum of their rewards."""
        ledger.measure = self.measure

    @property
    def last(self) -> int:
        """Level of the nodes whose prediction is the finished sample."""
        return self.ledger.chain.steps - 1

    @property
    def spread(self) -> float:
        """Standard deviation of the rewards so far."""
        n = len(self.leaves)
        return math.sqrt(max(0.0, self.squares) / (n - 1)) if n > 1 else 1.0

    @property
    def slope(self) -> float:
        """The tilt, or 1 while it cannot be told: no node but the root has two children then."""
        return 1.0 if self.tilt is None else self.tilt

    def branches(self, node: Node) -> bool:
        """Whether a node may have a second child."""
        low, high = self.window
        steps = self.ledger.chain.steps
        return node.level < 0 or low <= (steps - node.level) / steps <= high

    def cost(self, node: Node) -> float:
        """Network evaluations of one more child and its way to the end."""
        chain = self.ledger.chain
        again = chain.price if chain.method.corrector and node.level >= 0 else 0.0
        return chain.cost(node.level + 1) + again

    def select(self, choose: Choose) -> Node:
        """Go down to a node that may have one more child."""
        floor = self.worst if self.leaves else 0.0
        for _ in range(_PATIENCE):
            node = self.root
            while node.level < self.last:
                ready = node.ready
                born = len(node.children) + node.awaited
                wider = self.branches(node) and self.widening.allows(born, node.visits + 1)
                if not ready or wider:
                    return node
                node.visits += 1
                node = choose(node, ready, floor)
            node.visits += 1  # a finished sample met again: nothing to learn, but its path widens
        return self.root

    def rollout(self, nodes: Sequence[Node]) -> None:
        """One new child of every node, each followed to its end side by side."""
        numbers = range(self.rollouts, self.rollouts + len(nodes))
        self.rollouts += len(nodes)
        rngs = dict(zip(numbers, random.row_generators(self.seed, numbers), strict=True))
        waiting: dict[int, list[tuple[int, Node]]] = {}
        for number, node in zip(numbers, nodes, strict=True):
            waiting.setdefault(node.level, []).append((number, node))
        front: list[tuple[int, Node]] = []
        for level in range(-1, self.last):
            front = [*self._walk(front, rngs), *self._walk(waiting.get(level, []), rngs)]
            if front:
                self._predict([node for _, node in front])
        self._finish([node for _, node in front])

    def _walk(
        self, pairs: Sequence[tuple[int, Node]], rngs: dict[int, torch.Generator]
    ) -> list[tuple[int, Node]]:
        """One step down from nodes of one level that have predictions."""
        if not pairs:
            return []
        nodes, own = [node for _, node in pairs], [rngs[number] for number, _ in pairs]
        level = nodes[0].level
        if level < 0:
            moved = self.ledger.start(len(nodes), own)
        else:
            at, clean = gather_particles(nodes), gather_clean(nodes)
            moved = self.ledger.advance(at, clean, own)
        made = [Node(level + 1, node, moved, row, visits=1) for row, node in enumerate(nodes)]
        for node, child in zip(nodes, made, strict=True):
            node.children.append(child)
            node.awaited = max(0, node.awaited - 1)
        return [(number, child) for (number, _), child in zip(pairs, made, strict=True)]

    def _predict(self, nodes: Sequence[Node]) -> None:
        clean = self.ledger.predict(gather_particles(nodes))
        for row, node in enumerate(nodes):
            node.clean, node.clean_row = clean, row

    def _finish(self, nodes: Sequence[Node]) -> None:
        """Score the ends and carry their rewards back."""
        at, clean = gather_particles(nodes), gather_clean(nodes)
        for node, reward in zip(nodes, self.ledger.finish(at, clean).tolist(), strict=True):
            dropped = math.isnan(reward)
            node.value = -math.inf if dropped else reward
            if not dropped:
                self._note(node, reward)
        if self.tilt is None:
            known = [node.value for node in self.leaves if node.value is not None]
            self.tilt = usual_tilt(torch.tensor(known, dtype=torch.float64))
        for node in nodes:
            self._back_up(node)

    def _note(self, node: Node, reward: float) -> None:
        """Keep a finished sample; moments by Welford's update."""
        self.leaves.append(node)
        before, self.mean = self.mean, self.mean + (reward - self.mean) / len(self.leaves)
        self.squares += (reward - before) * (reward - self.mean)
        self.worst = min(self.worst, reward)

    def _back_up(self, node: Node) -> None:
        """Soft Bellman backup from a node to the root."""
        above = node.parent
        while above is not None:
            values = [self.slope * c.value for c in above.children if c.value is not None]
            above.value = (_log_sum_exp(values) - math.log(len(values))) / self.slope
            above = above.parent

    def measure(self) -> tuple[Tensor, float]:
        """Log-weights of the kept samples, and the log-normaliser.

        A sample's weight is its probability when the tree is gone down in proportion to
        exp(tilt V): as many draws of the target as one likes, better than the visits themselves.
        """
        reached: dict[Node, float] = {self.root: 0.0}
        todo = [self.root]
        while todo:
            node = todo.pop()
            values = {c: self.slope * c.value for c in node.children if c.value is not None}
            total = _log_sum_exp(list(values.values()))
            for child, value in values.items():
                if value > -math.inf:
                    reached[child] = reached[node] + value - total
                    todo.append(child)
        weights = torch.tensor([reached[leaf] for leaf in self.leaves], dtype=torch.float64)
        return weights, self.slope * (-math.inf if self.root.value is None else self.root.value)


def _log_sum_exp(values: Sequence[float]) -> float:
    top = max(values, default=-math.inf)
    if top == -math.inf:
        return top
    return top + math.log(sum(math.exp(v - top) for v in values))


_PATIENCE = 1000
"""Descents that meet finished samples only, before a new draw from the prior is made."""


def _grow(tree: _Tree, choose: Choose) -> Iterator[tuple[int, float]]:
    ledger = tree.ledger
    while True:
        chosen: list[Node] = []
        left = ledger.budget - ledger.evaluations
        while len(chosen) < tree.batch:
            node = tree.select(choose)
            left -= tree.cost(node)
            if left < 0:
                break
            node.visits += 1
            node.awaited += 1
            chosen.append(node)
        if not chosen:
            return
        tree.rollout(chosen)
        yield ledger.now
