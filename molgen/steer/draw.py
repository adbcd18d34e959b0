"""How a request changes the draw of molecules.

The positions decide early which atom becomes what, and the network follows them rather than what is
put into its other inputs. So a request is an energy of the prediction, whose gradient moves the
positions (reconstruction guidance: Ho et al. 2022, Video Diffusion Models, section 3.1; Chung et
al. 2023, DPS); class probabilities are tilted, and what is kept is put into the prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from diffcore import random
from diffcore.coupling import rotation_onto
from diffcore.denoisers import Counted, Denoiser, with_temperature
from diffcore.editing import Known, clamped
from diffcore.guidance import Energy, energy_guided
from diffcore.processes import Categorical, Process
from diffcore.samplers import prior, sample, solver
from diffcore.schedules import power_grid
from diffcore.state import State, Times
from molgen.steer.counts import with_counts, with_sum
from molgen.steer.fragments import Fragment
from molgen.steer.properties import with_predictor
from molgen.steer.request import Request
from molgen.targets import draw_condition

if TYPE_CHECKING:
    from molgen.properties import PropertyPredictor
    from molgen.sampling import Sampling
    from molgen.tasks.molecules import MoleculeTask

FORMULA_LIMIT, FRAGMENT_LIMIT = 0.3, 1.0
"""Largest root-mean-square shift of the predicted positions, in standard deviations of the data."""

SITE_WEIGHT, PLACE_WEIGHT = 0.5, 20.0
"""Of a missing bond end, squared, and of a squared distance, against a log-probability."""

SCATTER = 0.2
"""Standard deviation of a fragment's distance from the centre, along each axis, when noise is
assigned to it; in standard deviations of the data."""

FLOOR = 1e-4
"""Added to probabilities under a logarithm, so that gradients stay finite."""

Term = Callable[[State], Tensor]
"""A clean prediction -> energies [B]."""


@dataclass(frozen=True)
class Plan:
    """A request for molecules of up to N atoms: what is clamped, what is counted.

    The kept atoms are the first of every molecule.
    """

    task: MoleculeTask
    request: Request
    n_atoms: int
    device: torch.device = torch.device("cpu")

    @property
    def kept(self) -> int:
        """How many atoms are kept."""
        return 0 if self.request.fragment is None else len(self.request.fragment)

    @property
    def free(self) -> Tensor:
        """Atoms that are not kept, [N] bool."""
        return torch.arange(self.n_atoms, device=self.device) >= self.kept

    def steer(self, network: Denoiser, temperature: float) -> Denoiser:
        """The denoiser that aims at the request, at a temperature of its class probabilities."""
        with torch.inference_mode(False):
            processes, request = self.task.processes(), self.request
            denoiser, terms = network, self._terms()
            if terms:

                def energy(clean: State, times: Times) -> Tensor:
                    return torch.stack([term(clean) for term in terms]).sum(0)

                limit = FORMULA_LIMIT if request.fragment is None else FRAGMENT_LIMIT
                denoiser = _guided(denoiser, processes, energy, limit)
            if temperature != 1:
                cold = {n: temperature for n, p in processes.items() if isinstance(p, Categorical)}
                denoiser = with_temperature(denoiser, cold)
            if request.formula is not None:
                denoiser = with_counts(denoiser, "atom", self._free_counts(), self.free)
            if request.charge is not None:
                total = request.charge - sum(self._kept_charges())
                values = torch.tensor(self.task.charges, dtype=torch.float64)
                denoiser = with_sum(denoiser, "charge", values, total, self.free)
            known = self.known()
            return denoiser if known is None else clamped(denoiser, processes, known)

    def _kept_charges(self) -> list[int]:
        part = self.request.fragment
        return [] if part is None else part.charge.tolist()

    def _free_counts(self) -> Tensor:
        """Atoms that are not kept, by element class, [K]."""
        formula, part = self.request.formula or {}, self.request.fragment
        gone = {} if part is None else part.formula
        return torch.tensor([formula.get(z, 0) - gone.get(z, 0) for z in self.task.elements])

    def _terms(self) -> list[Term]:
        terms, request = [], self.request
        if request.formula is not None:
            counts = torch.tensor([request.formula.get(z, 0) for z in self.task.elements])
            terms.append(_formula_term(counts.float()))
        if request.charge is not None:
            terms.append(_charge_term(torch.tensor(self.task.charges).float(), request.charge))
        known = self.known()
        if request.fragment is not None and known is not None:
            elements = self.task.elements
            hydrogen = elements.index(1) if 1 in elements else None
            terms += _fragment_terms(request.fragment, known, hydrogen)
        return terms

    def known(self) -> Known | None:
        """The kept part as one clean row, over which all rows broadcast; None if nothing is kept.

        An atom without an open site has no bonds to atoms that are not kept.
        """
        part = self.request.fragment
        if part is None:
            return None
        m, n = len(part), self.n_atoms
        kept = ~self.free.cpu().unsqueeze(0)
        bonds = torch.zeros(1, n, n, dtype=torch.bool)
        bonds[0, :m, :m] = True
        full = torch.as_tensor(part.open == 0)
        bonds[0, :m, m:] |= full.unsqueeze(1)
        bonds[0, m:, :m] |= full.unsqueeze(0)
        where = {"atom": kept, "charge": kept, "bond": bonds}
        if part.placed.any():
            where["pos"] = torch.zeros_like(kept)
            where["pos"][0, :m] = torch.as_tensor(part.placed)
        where = {name: x.to(self.device) for name, x in where.items()}
        return Known(self._clean(part).to(self.device), where)

    def _clean(self, part: Fragment) -> State:
        m, n = len(part), self.n_atoms
        atom, charge = torch.zeros(1, n, dtype=torch.long), torch.zeros(1, n, dtype=torch.long)
        atom[0, :m] = torch.tensor([self.task.elements.index(z) for z in part.atomic_number])
        charge[0, :m] = torch.tensor([self.task.charges.index(q) for q in part.charge])
        bond = torch.zeros(1, n, n, dtype=torch.long)
        bond[0, :m, :m] = torch.as_tensor(part.bond_order)
        pos = torch.zeros(1, n, 3)
        pos[0, :m] = torch.as_tensor(np.nan_to_num(part.pos)).float() / self.task.scale
        fields = {"pos": pos, "atom": atom, "charge": charge, "bond": bond}
        return State(fields, torch.ones(1, n, dtype=torch.bool))

    def start(self, noise: State, rngs: list[torch.Generator]) -> State:
        """The first state: the noise that lies nearest to a fragment's places goes to its atoms.

        The model was trained on noise that is aligned with its molecule (ADR 7).
        """
        known = self.known()
        if known is None or "pos" not in known.where:
            return noise
        at = known.where["pos"][0].cpu()
        places = known.state["pos"].cpu()[0, at]
        places = places - places.mean(0)
        shift = SCATTER * random.normal(rngs, torch.zeros(noise.rows, 3))
        rows = [assigned(x, places + c, at) for x, c in zip(noise["pos"].cpu(), shift, strict=True)]
        return noise.replace(pos=torch.stack(rows).to(noise.mask.device))


def assigned(noise: Tensor, places: Tensor, at: Tensor, rounds: int = 3) -> Tensor:
    """Permute and rotate a molecule's noise [N, 3] so that the nodes ``at`` [N] get the nearest.

    Args:
        noise: centred; no padding.
        places: where these nodes shall be, [M, 3].
        at: M of the N nodes, bool.
        rounds: how often assignment and rotation alternate.
    """
    from scipy.optimize import linear_sum_assignment

    chosen = torch.arange(len(places))
    for _ in range(rounds):
        cost = torch.cdist(places, noise).square()
        chosen = torch.as_tensor(linear_sum_assignment(cost.numpy())[1])
        rotation = rotation_onto(noise[chosen].unsqueeze(0), places.unsqueeze(0))[0]
        noise = noise @ rotation.T
    others = torch.ones(len(noise), dtype=torch.bool)
    others[chosen] = False
    out = torch.empty_like(noise)
    out[at], out[~at] = noise[chosen], noise[others]
    return out


def _guided(
    denoiser: Denoiser, processes: Mapping[str, Process], energy: Energy, limit: float
) -> Denoiser:
    return energy_guided(
        denoiser,
        processes,
        energy,
        on="denoiser",
        fields=("pos",),
        limit=limit,
    )


def _real(clean: State) -> Tensor:
    return clean.mask.to(clean["pos"].dtype)


def _formula_term(counts: Tensor) -> Term:
    """Squared difference of the expected numbers of atoms from those asked for."""

    def term(clean: State) -> Tensor:
        found = (clean["atom"] * _real(clean).unsqueeze(-1)).sum(1)
        return ((found - counts.to(found)) ** 2).sum(-1)

    return term


def _charge_term(values: Tensor, charge: int) -> Term:
    def term(clean: State) -> Tensor:
        found = ((clean["charge"] @ values.to(clean["charge"])) * _real(clean)).sum(1)
        return (found - charge) ** 2

    return term


def _fragment_terms(part: Fragment, known: Known, hydrogen: int | None) -> list[Term]:
    """Minus the log-probability of what is kept, the open sites, and the distances."""
    m = len(part)
    first, second = torch.triu_indices(m, m, 1)
    atom, charge = known.state["atom"][0, :m], known.state["charge"][0, :m]
    bond, site = known.state["bond"][0, first, second], torch.as_tensor(part.open)

    def surprise(p: Tensor, index: Tensor) -> Tensor:
        index = index.to(p.device).expand(p.shape[:-1]).unsqueeze(-1)
        return -(p.gather(-1, index).squeeze(-1) + FLOOR).log().sum(1)

    def graph(clean: State) -> Tensor:
        e = surprise(clean["atom"][:, :m], atom) + surprise(clean["charge"][:, :m], charge)
        return e + surprise(clean["bond"][:, first, second], bond)

    counted = torch.as_tensor(part.hydrogens >= 0)
    wanted = torch.as_tensor(part.hydrogens)[counted]

    def sites(clean: State) -> Tensor:
        p = clean["bond"][:, :m, m:]
        orders = torch.arange(p.shape[-1], device=p.device, dtype=p.dtype)
        ends = (p @ orders) * _real(clean)[:, None, m:]
        miss = ((ends.sum(-1) - site.to(ends)) ** 2).sum(1)
        if hydrogen is not None and counted.any():
            bound = (ends * clean["atom"][:, None, m:, hydrogen]).sum(-1)[:, counted]
            miss = miss + ((bound - wanted.to(bound)) ** 2).sum(1)
        return SITE_WEIGHT * miss

    if "pos" not in known.where:
        return [graph, sites]
    at = known.where["pos"][0]
    places = known.state["pos"][0, at]
    places = places - places.mean(0)

    def place(clean: State) -> Tensor:
        x = clean["pos"][:, at]
        x = x - x.mean(1, keepdim=True)
        return PLACE_WEIGHT * ((x - places.to(x)) ** 2).sum((1, 2))

    return [graph, sites, place]


def draw(
    plan: Plan,
    denoiser: Denoiser,
    settings: Sampling,
    rngs: list[torch.Generator],
    steerer: PropertyPredictor | None,
    progress: Callable[[int, int], None],
) -> tuple[State, int]:
    """One draw of a plan for every generator.

    Args:
        plan: what is asked of molecules of one size.
        denoiser: the model's.
        settings: sampler, steps, temperature.
        rngs: one generator a molecule.
        steerer: predictor that pulls towards the plan's properties.
        progress: called with (step, steps).

    Returns:
        The clean state, and calls of the network.
    """
    processes = plan.task.processes()
    mask = torch.ones(len(rngs), plan.n_atoms, dtype=torch.bool, device=plan.device)
    if steerer is not None:
        names, strength = tuple(plan.task.conditions), plan.request.strength
        denoiser = with_predictor(denoiser, processes, steerer, names, strength)
    counted = Counted(plan.steer(denoiser, settings.temperature))
    grid = power_grid(settings.steps, settings.power)
    with torch.inference_mode():
        start = plan.start(prior(processes, mask, rngs), rngs)
        if plan.task.conditions:  # what the network is told; NaN for what nobody asked for
            condition = draw_condition(plan.request.targets, plan.task, rngs)
            start = start.replace(property=condition.to(plan.device))
        method = solver(settings.sampler)
        state = sample(counted, processes, start, grid, rngs, method=method, progress=progress)
    return state, counted.calls


def draw_size(sizes: Mapping[int, int], rng: torch.Generator) -> int:
    """A number of atoms, drawn by weight; nothing is drawn where there is one size only."""
    if len(sizes) == 1:
        return next(iter(sizes))
    counts = torch.tensor(list(sizes.values()), dtype=torch.float64)
    u = torch.rand((), generator=rng, dtype=torch.float64)
    return list(sizes)[int(random.categorical(counts, u))]
