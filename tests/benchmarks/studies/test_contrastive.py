"""The contrastive net: its views match, and it learns to find places again."""

import numpy as np
import torch

from benchmarks.studies import contrastive


def test_the_places_of_two_views_are_the_same_places(monkeypatch):
    monkeypatch.setattr(contrastive, "SHIFT", 0.0)
    y, x = np.mgrid[:300, :280].astype(np.float32)
    image = torch.from_numpy(np.sin(x / 23) + np.cos(y / 31))[None].float()
    rng = np.random.default_rng(0)
    for _ in range(20):
        (first, p), (second, q) = contrastive.pair(image, rng)
        assert first.shape == second.shape == (1, contrastive.CROP, contrastive.CROP) and p.shape == (
            1,
            contrastive.POINTS,
            2,
        )
        assert float(max(p.abs().max(), q.abs().max())) < 1.2
        inside = ((p.abs() < 0.95) & (q.abs() < 0.95)).all(2)[0].numpy()
        one, other = (
            torch.nn.functional.grid_sample(view[None], at[None], align_corners=False).numpy().ravel()[inside]
            for view, at in ((first, p), (second, q))
        )
        assert inside.sum() > 10 and np.corrcoef(one, other)[0, 1] > 0.8  # contrast, brightness, noise differ


def test_the_net_learns_to_find_places_again():
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.normal(size=(1, 200, 200))).float()
    image = torch.nn.functional.avg_pool2d(image, 5, 1, 2) * 5
    net = contrastive.contrastive([image], 25, 0)

    def found_again(net) -> float:
        rng, hits = np.random.default_rng(1), []
        with torch.no_grad():
            for _ in range(8):
                (a, p), (b, q) = contrastive.pair(image, rng)
                seen = torch.nn.functional.grid_sample(
                    net.head(net(torch.stack([a, b]))), torch.stack([p, q]), align_corners=False
                )[:, :, 0]
                first, second = torch.nn.functional.normalize(seen, dim=1)
                hits.append(((first.T @ second).argmax(1) == torch.arange(contrastive.POINTS)).float().mean().item())
        return float(np.mean(hits))

    torch.manual_seed(0)
    assert found_again(net) > 1.5 * found_again(contrastive.Net().eval())
    assert net(image[None]).shape == (1, 128, 50, 50)
