"""Where SCCS+ loses to a linear probe: in its features, in its embedding, or by the number of clusters.

    SCCS_DATA=DIR python benchmarks/studies/limits.py [--data platelet hela cdeep3m vnc phantom] [--seeds 0 1 2] [--steps 800]
                                              [--jobs 1] [--out benchmarks/results/leads] [--set a.b=c ...]

On training images alone, cut in halves by place as `leads.py --halves` does (up to three divisions of a set): one half is
trained on, the other scored.
For several node features: the linear probe on them, the probe on the coordinates Z (n_s, u), and 64, 32, 16 and 8
clusters of Z, each cluster mapped to a class by the labels of the half trained on. What the first loses to the second is
the embedding's, to the third the clusters', from 64 to 8 that of their number.

Among the features: those of a small convolutional net (0.5 M weights) that is trained here, on the set's images and
without labels, to find a place again in another view of it (turned, mirrored, scaled, brighter, noisier) among the other
places of the batch (InfoNCE, van den Oord et al. 2018). It is no part of SCCS: it tells whether features that a probe
likes better give better clusters. It sees the images of both halves.

--jobs: sets at a time, each in a process of one thread. Writes OUT/limits.md and OUT/limits.csv.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from harness import SETS, describe, job, markdown, mean_sd, publish
from leads import HOPS, Arrays, U, Views, halves, principal, views_of

from registry.base import FeatureMap
from registry.clusterer.linear_probe import LinearProbe
from registry.embedder.lgc_principal import LGCPrincipal
from registry.numeric.kmeans import kmeans
from registry.numeric.nearest import squared_distances
from registry.spg.graphs import Nodes
from registry.spg.pooling import pool
from sccs.cli import guard
from sccs.evaluation.scores import fit_mapping, rest_position, scores
from sccs.run import environment

CLUSTERS = (64, 32, 16, 8)
DIVISIONS = 3  # of a set into halves, at most
CROP, BATCH, POINTS = 128, 12, 48  # px; crops a step; places of a crop
SHIFT, TEMPERATURE = 4.0, 0.2  # px that a place moves between views; of InfoNCE
RATE, WARMUP = 2e-3, 50  # of AdamW; steps
FEATURES = {  # which blocks of the node features: 0 the MAE's, 1 the filters', 2 the net's
    "MAE and filters (SCCS+)": (0, 1),
    "MAE": (0,),
    "contrastive net": (2,),
    "contrastive net and filters": (2, 1),
    "all three": (0, 1, 2),
}
STAGES = ("probe on the features", "probe on Z", *(f"{k} clusters" for k in CLUSTERS))


# ------------------------------------------------------------------------------------------------ the contrastive net
def layer(channels: int, out: int, side: int = 3, stride: int = 1, last: bool = False) -> nn.Sequential:
    parts = [nn.Conv2d(channels, out, side, stride, side // 2, padding_mode="reflect", bias=False), nn.BatchNorm2d(out)]
    return nn.Sequential(*parts, *([] if last else [nn.ReLU(inplace=True)]))


class Residual(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(layer(width, width), layer(width, width, last=True))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(x + self.body(x))


class Net(nn.Module):
    """Images (B, 1, H, W) to features (B, 128, H/4, W/4) of three scales; `head` to what is compared (B, 64, ...)."""

    def __init__(self, width: int = 24, out: int = 128, compared: int = 64):
        super().__init__()
        self.fine = nn.Sequential(layer(1, width, 5, 2), Residual(width))
        self.middle = nn.Sequential(layer(width, 2 * width, stride=2), Residual(2 * width))
        self.coarse = nn.Sequential(layer(2 * width, 4 * width, stride=2), Residual(4 * width), Residual(4 * width))
        self.mix = layer(7 * width, out, 1)
        self.head = nn.Sequential(layer(out, out, 1), nn.Conv2d(out, compared, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        fine = self.fine(x)
        middle = self.middle(fine)
        coarse = functional.interpolate(self.coarse(middle), size=middle.shape[2:], mode="bilinear")
        return self.mix(torch.cat([functional.avg_pool2d(fine, 2, ceil_mode=True), middle, coarse], 1))


def pair(image: torch.Tensor, rng: np.random.Generator) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Two views (1, CROP, CROP) of one place of image (1, H, W), and in each the same places (1, POINTS, 2) as (x, y)
    from -1 to 1."""
    H, W = image.shape[1:]
    centre = np.array([rng.uniform(min(0.6 * CROP, n / 2), max(n - 0.6 * CROP, n / 2)) for n in (H, W)])
    angle, radius = rng.uniform(0, 2 * np.pi, POINTS), rng.uniform(0, 0.42 * CROP, POINTS)
    places = radius[:, None] * np.stack([np.sin(angle), np.cos(angle)], 1)  # y, x from the centre, px
    along = np.arange(CROP) + 0.5 - CROP / 2
    found = []
    for shift in (0.0, SHIFT):
        turn, mirror, scale = rng.uniform(0, 2 * np.pi), rng.choice([-1, 1]), np.exp(rng.uniform(-0.25, 0.25))
        M = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ np.diag([mirror, 1]) * scale
        y, x = (np.stack(np.meshgrid(along, along, indexing="ij"), -1) @ M.T + centre).transpose(2, 0, 1)
        grid = torch.from_numpy(np.stack([2 * x / W - 1, 2 * y / H - 1], -1).astype(np.float32))[None]
        view = functional.grid_sample(image[None], grid, padding_mode="reflection", align_corners=False)[0]
        view = view * np.exp(rng.normal(0, 0.15)) + rng.normal(0, 0.15)
        if rng.random() < 0.5:
            view = view + torch.from_numpy(rng.normal(0, rng.uniform(0, 0.3), view.shape))
        if rng.random() < 0.3:
            view = functional.avg_pool2d(view[None], 3, 1, 1)[0]
        moved = (places + rng.normal(0, shift, places.shape)) @ np.linalg.inv(M).T * 2 / CROP
        found.append((view.float(), torch.from_numpy(moved[:, ::-1].astype(np.float32).copy())[None]))
    return found


def contrastive(images: Sequence[torch.Tensor], steps: int, seed: int) -> Net:
    """A net trained on standardised images (1, H, W)."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = Net().to(memory_format=torch.channels_last)
    adam = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=1e-4)
    rate = torch.optim.lr_scheduler.LambdaLR(
        adam, lambda i: min(1, (i + 1) / WARMUP) * (1 + np.cos(np.pi * i / max(steps, 1))) / 2
    )
    for _ in range(steps):
        pairs = [pair(images[rng.integers(len(images))], rng) for _ in range(BATCH)]
        views, places = (torch.stack([both[i][j] for i in (0, 1) for both in pairs]) for j in (0, 1))
        seen = functional.grid_sample(net.head(net(views)), places, align_corners=False)  # (2 BATCH, 64, 1, POINTS)
        first, second = functional.normalize(seen[:, :, 0].transpose(1, 2), dim=2).flatten(0, 1).chunk(2)
        likeness = first @ second.T / TEMPERATURE
        same = torch.arange(len(first))
        loss = (functional.cross_entropy(likeness, same) + functional.cross_entropy(likeness.T, same)) / 2
        adam.zero_grad()
        loss.backward()
        adam.step()
        rate.step()
    return net.eval()


def with_net(found: Views, steps: int, seed: int) -> Views:
    """The views, the net's features as a third block of their nodes."""
    grey = np.concatenate([view.image.ravel() for view in found.views])
    mean, deviation = grey.mean(), max(grey.std(), 1e-6)
    images = [torch.from_numpy((view.image - mean) / deviation).float()[None] for view in found.views]
    net = contrastive(images, steps, seed)
    views = []
    for view, image in zip(found.views, images):
        with torch.no_grad():
            values = functional.interpolate(net(image[None]), size=view.image.shape, mode="bilinear")[0]
        pixels = values.permute(1, 2, 0).contiguous().numpy()
        more = pool(FeatureMap(values=pixels, step=1.0, offset=0.0, shape=view.image.shape), view.nodes.regions)
        nodes = replace(
            view.nodes,
            feature=np.concatenate([view.nodes.feature, more], 1),
            blocks=np.append(view.nodes.blocks, more.shape[1]),
        )
        views.append(replace(view, nodes=nodes))
    return replace(found, views=views)


# ----------------------------------------------------------------------------------------------------------- measuring
def only(nodes: Nodes, blocks: Sequence[int]) -> Nodes:
    parts = np.split(nodes.feature, np.cumsum(nodes.blocks)[:-1], axis=1)
    return replace(nodes, feature=np.concatenate([parts[b] for b in blocks], 1), blocks=nodes.blocks[list(blocks)])


def probed(values: Arrays, graphs: Sequence, found: Views) -> Arrays:
    """Classes (n_s,) by a linear probe that the first half's labels teach."""
    probe = LinearProbe(k=max(8, len(found.classes)))
    probe.fit(graphs[: found.seen], values[: found.seen], [view.counts for view in found.views[: found.seen]])
    return [probe.predict(graph, torch.as_tensor(Z)).argmax(1).numpy() for graph, Z in zip(graphs, values)]


def scored(assigned: Arrays, k: int, found: Views, mapped: bool) -> float:
    """Mean DSC over classes on the views that were not trained on; without `mapped`, `assigned` are classes."""
    tables = np.zeros((len(assigned), k, len(found.classes)), np.int64)
    for table, each, view in zip(tables, assigned, found.views):
        np.add.at(table, each, view.counts)
    mapping = np.arange(k)
    if mapped:
        mapping = fit_mapping("train", tables[: found.seen].sum(0), rest=rest_position(found.classes, None))
    return scores(tables[found.seen :].sum(0), mapping, found.classes)["mean"]["dsc"]


def stages(found: Views, blocks: Sequence[int], seeds: Sequence[int]) -> dict[str, list[float]]:
    """DSC by stage, for each seed, of one division."""
    builder = job("sccs_plus", "phantom", 0, "quick").pipeline.graph
    nodes = [only(view.nodes, blocks) for view in found.views]
    builder.fit(nodes[: found.seen])
    graphs = [builder.connect(each) for each in nodes]
    walk = LGCPrincipal(u=U, hops=HOPS, normalisation="walk")
    Z = principal([walk._propagated(graph, graph.feature, HOPS) for graph in graphs], found.seen)
    result = {}
    for name, values in zip(STAGES, ([graph.feature.numpy() for graph in graphs], Z)):
        value = scored(probed(values, graphs, found), len(found.classes), found, False)
        result[name] = [value] * len(seeds)
    for k in CLUSTERS:
        result[f"{k} clusters"] = []
        for seed in seeds:
            means = kmeans(np.concatenate(Z[: found.seen]), k, seed)[0]
            assigned = [squared_distances(z, means).argmin(1) for z in Z]
            result[f"{k} clusters"].append(scored(assigned, k, found, True))
    return result


def of_set(data: str, seeds: Sequence[int], steps: int, overrides: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    found = with_net(views_of(data, overrides), steps, 0)
    divisions = halves(found, DIVISIONS)
    answer = {}
    for name, blocks in FEATURES.items():
        each = [stages(division, blocks, seeds) for division in divisions]
        answer[name] = {stage: np.mean([one[stage] for one in each], 0).tolist() for stage in STAGES}
        print(f"{data:9} {name:28}" + "  ".join(f"{s} {np.mean(v):.3f}" for s, v in answer[name].items()), flush=True)
    return answer


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--data", nargs="+", default=list(SETS), choices=SETS, metavar="SET")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of the clusters")
    parser.add_argument("--steps", type=int, default=800, help="of the net's training")
    parser.add_argument("--jobs", type=int, default=1, help="sets at a time")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/leads"))
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="a.b=c", dest="overrides")
    args = parser.parse_args(argv)
    given = args.seeds, args.steps, args.overrides
    if args.jobs > 1:
        os.environ["OMP_NUM_THREADS"] = "1"  # of the processes below
        with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as workers:
            jobs = [workers.submit(of_set, data, *given) for data in args.data]
            results = {data: each.result() for data, each in zip(args.data, jobs)}
    else:
        results = {data: of_set(data, *given) for data in args.data}
    print(written(args, results))
    return 0


def written(args, results: dict[str, dict[str, dict[str, list[float]]]]) -> Path:
    rows = [
        [
            name,
            *(mean_sd(np.mean([results[data][name][stage] for data in results], axis=0).tolist()) for stage in STAGES),
        ]
        for name in FEATURES
    ]
    for row in rows:  # probes have no seed
        row[1:3] = [cell.partition(" ")[0] for cell in row[1:3]]
    sets = ", ".join("phantom (synthetic)" if data == "phantom" else data for data in results)
    text = (
        f"`python benchmarks/studies/limits.py`; mean of {sets}; seeds {', '.join(map(str, args.seeds))} of the clusters, "
        f"mean ± standard deviation; {describe(environment('cpu'))}. Mean DSC over classes on the half of the "
        f"training places that was not trained on, its clusters mapped by the other half's labels (rule `train`); "
        f"{args.steps} steps of the net.\n\n" + markdown(["features of a node", *STAGES], rows)
    )
    values = [
        [name, data, stage, seed, f"{value:.6g}"]
        for data, found in results.items()
        for name, by in found.items()
        for stage, each in by.items()
        for seed, value in zip(args.seeds, each)
    ]
    return publish(args.out, "limits", "What limits SCCS+", text, ["features", "set", "stage", "seed", "dsc"], values)


if __name__ == "__main__":
    sys.exit(guard(main)())
