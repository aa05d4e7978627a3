"""Training of a pipeline's trainable parts: one loop for SCCS, its ablations, and frozen embeddings.

The trainer sums the parts' loss terms with the recipe's weights (paper, Eq. 5):
L = L_spe + gamma_1 L_clu + gamma_2 L_smo, as `train.weights: {spe: 1, clu: 1, smo: .1}`.
"""

from __future__ import annotations

import json
import math
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, cast

import numpy as np
import torch

from registry.base import Clusterer, Embedder, UserError
from registry.spg.graphs import RegionGraph
from sccs.evaluation.evaluate import IN_USE
from sccs.recipe.schema import Train, Trained
from sccs.system.exits import ending_signals
from sccs.system.log import RunLog
from sccs.training.batches import batches, embedded
from sccs.training.checkpoint import (
    below,
    drop_old,
    newest_step,
    optimizer_values,
    restore_optimizer,
    said,
    step_file,
    write_tensors,
)


def check_length(embedder: Embedder, clusterer: Clusterer, iterations: int) -> None:
    """Raises UserError if `train.iterations` leaves no training for a clusterer that needs it.

    Zero iterations leave a trainable embedder as initialised, which is a valid system.
    """
    if not clusterer.trainable:
        return
    if iterations == 0:
        raise UserError(
            "train.iterations: 0 leaves the clusterer untrained; raise it, or use a clusterer that needs "
            "no training, such as kmeans"
        )
    if embedder.trainable and clusterer.warmup >= iterations:
        raise UserError(
            f"clusterer.warmup: {clusterer.warmup} leaves none of train.iterations: {iterations} to train "
            "the head; lower the first or raise the second"
        )


class Trainer:
    """Adam over the parameters of the trainable parts, one graph per iteration (paper: lr .01, batch 1, 6,000).

    graphs: the training spGs. anchor: index of the anchor graph. options: the recipe's `train` block.
    checkpoints: their folder; None: save none. On the CPU, a resumed run gives the same bits as an uninterrupted one:
    the order of graphs is a function of seed and epoch, and the full state of parts, optimiser and random numbers is
    saved.
    Raises UserError as `check_length` does.
    """

    def __init__(
        self,
        embedder: Embedder,
        clusterer: Clusterer,
        graphs: Sequence[RegionGraph],
        options: Train,
        *,
        seed: int,
        anchor: int = 0,
        log: RunLog,
        checkpoints: Path | None = None,
    ):
        check_length(embedder, clusterer, options.iterations)
        self.embedder, self.clusterer, self.graphs, self.options = embedder, clusterer, graphs, options
        self.seed, self.anchor, self.log, self.checkpoints = seed, anchor, log, checkpoints
        self.step = 0

    @property
    def modules(self) -> list[torch.nn.Module]:
        """The trainable parts."""
        return list(self._parts().values())

    def run(self, resume: bool = False, preview: Callable[[int], Any] | None = None) -> None:
        """Train to the end. `preview(step)` is called at each checkpoint, to draw. On SIGINT, SIGTERM and SIGHUP, saves
        everything and raises KeyboardInterrupt."""
        if not self.modules:
            return
        options, total = self.options, self.options.iterations
        torch.manual_seed(self.seed)
        if self.clusterer.trainable:
            with torch.no_grad():
                self.clusterer.prepare(self.embedder.embed(self.graphs[0]).shape[1], self.graphs[0].device)
        self._make_optimizer()
        if resume:
            self._load_latest()
        self._batches = batches(self.graphs, options.batch, self.seed, self.step)
        frozen = None
        if not self.embedder.trainable:
            frozen = [self.embedder.embed(graph) for graph in self.graphs]
        for module in self.modules:
            module.train()
        with deferred_interrupt() as interrupted, self.log.progress(total, "training", initial=self.step) as bar:
            while self.step < total:
                terms = self._iterate(frozen)
                self.step += 1
                last = self.step == total
                if self.step % options.log_every == 0 or last:
                    self._report(terms)
                    bar.update(min(options.log_every, self.step - bar.done), loss=terms["total"].item())
                if self.step % options.checkpoint_every == 0 or last or interrupted():
                    self._save()
                    if interrupted():
                        raise KeyboardInterrupt
                    if preview is not None:
                        preview(self.step)
            if interrupted():  # during the last preview
                raise KeyboardInterrupt
        for module in self.modules:
            module.eval()

    def _make_optimizer(self) -> None:
        groups = [{"params": list(part.parameters()), "role": role} for role, part in self._parts().items()]
        self.optimizer = torch.optim.Adam(groups, lr=self.options.lr, betas=(0.9, 0.999))

    @property
    def _warmup(self) -> int:
        """Iterations before the clusterer's training starts."""
        return self.clusterer.warmup if self.embedder.trainable else 0

    def _iterate(self, frozen: Sequence[torch.Tensor] | None) -> dict[str, torch.Tensor]:
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(self.step, group["role"])
        warmup = self._warmup
        if self.clusterer.trainable and not self.clusterer.begun and self.step >= warmup:
            with torch.no_grad():
                start = self.embedder.embed(self.graphs[self.anchor])
            self.clusterer.begin(self.graphs[self.anchor], start)
        terms: dict[str, torch.Tensor] = {}
        total: torch.Tensor | float = 0.0
        drawn = next(self._batches)
        graphs = [self.graphs[index] for index in drawn]
        if self.step < warmup:
            graphs = [graph if graph.warmup is None else graph.warmup for graph in graphs]
        clustering = self.clusterer.trainable and self.clusterer.begun
        coordinates: list[torch.Tensor | None] = [None] * len(drawn)
        if frozen is not None:
            coordinates = [frozen[index] for index in drawn]
        elif clustering or self.embedder.loss_uses_Z:
            coordinates = [*embedded(self.embedder.embed, graphs, self.embedder.embeds_batches)]
        for graph, Z in zip(graphs, coordinates):
            here = self.embedder.loss(graph, Z) if self.embedder.trainable else {}
            if clustering:
                assert Z is not None
                here = {**here, **self.clusterer.loss(graph, Z)}
            for name, value in here.items():
                terms[name] = terms.get(name, 0.0) + value / len(drawn)
                total = total + self._weight(name) * value / len(drawn)
        self.optimizer.zero_grad(set_to_none=True)
        if torch.is_tensor(total) and total.requires_grad:
            if not torch.isfinite(total):
                raise UserError(
                    f"training: the loss is {total.item()} at iteration {self.step}; lower train.lr "
                    f"({self.options.lr}) or check the log for degenerate graphs"
                )
            total.backward()
            self.optimizer.step()
        if self.embedder.trainable:
            for graph, Z in zip(graphs, coordinates):
                self.embedder.after_step(self.step, graph, None if Z is None else Z.detach())
        return {**terms, "total": torch.as_tensor(total)}

    def _weight(self, name: str) -> float:
        return self.options.weights.get(name, 1.0)

    def learning_rate(self, step: int, role: Trained = "embedder") -> float:
        """Learning rate of iteration `step`, from 0, by the part's schedule. The embedder's spans the warm-up, if there
        is one, so that the embedding is fixed when the clusterer's starts; otherwise all iterations."""
        options, warmup = self.options, self._warmup
        begin, end = (warmup, options.iterations) if role == "clusterer" else (0, warmup or options.iterations)
        wished = options.schedule
        if (wished if isinstance(wished, str) else wished.get(role, "constant")) == "constant":
            return options.lr
        share = min(max((step - begin) / max(end - begin, 1), 0), 1)
        return options.lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))

    def _report(self, terms: dict[str, torch.Tensor]) -> None:
        values = {f"loss/{name}": value.item() for name, value in terms.items()}
        first, *others = self._parts()
        values["lr"] = self.learning_rate(self.step - 1, first)
        values |= {f"lr/{role}": self.learning_rate(self.step - 1, role) for role in others}
        use = self.clusterer.use() if self.clusterer.trainable and self.clusterer.begun else None
        if use is not None:
            share = use / max(use.sum(), 1)
            values["clusters/in_use"] = int((share >= IN_USE).sum())
            values |= {f"clusters/share_{i}": float(s) for i, s in enumerate(share)}
        if (agreement := self._agreement()) is not None:
            values["clusters/agreement"] = agreement
        self.log.scalars(values, self.step)

    @torch.no_grad()
    def _agreement(self) -> float | None:
        """Share of the anchor's nodes for which the head agrees with its teacher; None without a teacher."""
        head = self.clusterer
        if not (head.trainable and head.begun):
            return None
        module = cast(torch.nn.Module, head)
        module.eval()  # no dropout
        share = agreement(self.embedder, head, [self.graphs[self.anchor]])
        module.train()
        return share

    def _parts(self) -> dict[Trained, Any]:
        """The trainable parts by role; they are also torch modules."""
        named: dict[Trained, Embedder | Clusterer] = {"embedder": self.embedder, "clusterer": self.clusterer}
        return {name: part for name, part in named.items() if part.trainable}

    def _save(self) -> None:
        if self.checkpoints is None:
            return
        values = {
            f"{role}.{name}": value for role, part in self._parts().items() for name, value in part.get_state().items()
        }
        values |= {**optimizer_values(self.optimizer), "random": torch.get_rng_state()}
        write_tensors(
            step_file(self.checkpoints, self.step),
            values,
            {"step": str(self.step), "options": json.dumps(self.options.model_dump())},
        )
        drop_old(self.checkpoints, self.step)

    def _load_latest(self) -> None:
        found, damaged = newest_step(self.checkpoints) if self.checkpoints else (None, [])
        tell = self.log.warning if damaged else self.log.info
        if found is None:
            tell(f"no checkpoint to resume from{said(damaged)}: training starts at iteration 0")
            return
        try:
            self._restore(found.arrays)
        except (KeyError, ValueError, RuntimeError) as error:  # arrays have other names or shapes than this code writes
            raise UserError(
                f"{found.path}: saved by another version of sccs ({str(error).splitlines()[0]}); train again with "
                "--overwrite"
            ) from None
        self.step = int(found.facts["step"])
        tell(f"resumed at iteration {self.step} from {found.path.name}{said(damaged)}")

    def _restore(self, arrays: dict[str, np.ndarray]) -> None:
        for role, part in self._parts().items():
            part.set_state(below(f"{role}.", arrays))
            part.to(self.graphs[0].device)
        self._make_optimizer()  # over the parameters created by the states
        restore_optimizer(self.optimizer, arrays)
        torch.set_rng_state(torch.from_numpy(arrays["random"]))


@torch.no_grad()
def agreement(embedder: Embedder, clusterer: Clusterer, graphs: Sequence[RegionGraph]) -> float | None:
    """Share of the nodes for which the clustering head agrees with its teacher; None without a teacher."""
    same = nodes = 0
    for graph in graphs:
        Z = embedder.embed(graph)
        if (taught := clusterer.taught(Z)) is None:
            return None
        same += int((clusterer.predict(graph, Z).argmax(1) == taught).sum())
        nodes += graph.n
    return same / nodes


@contextmanager
def deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Make SIGINT, SIGTERM and SIGHUP only set a flag, so that no iteration is cut short; a second stops at once."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    seen: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(number)

    previous = {number: signal.signal(number, note) for number in ending_signals()}
    try:
        yield lambda: bool(seen)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
