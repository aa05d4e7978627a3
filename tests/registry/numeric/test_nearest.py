"""Nearest centroid by FAISS: the labels of a plain argmin in double precision, but where three or more are as near."""

import builtins

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.base import UserError
from registry.numeric import nearest
from registry.numeric.nearest import assign


def plain(points, centroids):
    distances = ((points.astype(np.float64)[:, None] - centroids.astype(np.float64)[None]) ** 2).sum(-1)
    return distances.argmin(1), distances.min(1)


def check(points, centroids):
    """Labels are of the least distance to within rounding, and equal those of a plain argmin where that is clear."""
    labels, distances = assign(points, centroids)
    expected, least = plain(points, centroids)
    assert labels.dtype == np.int64 and distances.dtype == np.float32
    x, c = points.astype(np.float64), centroids.astype(np.float64)
    all_of_them = ((x[:, None] - c[None]) ** 2).sum(-1)
    own = np.take_along_axis(all_of_them, labels[:, None], 1)[:, 0]
    np.testing.assert_allclose(distances, own, rtol=1e-5)
    size = ((x - c.mean(0)) ** 2).sum(-1) + ((c - c.mean(0)) ** 2).sum(-1).max(initial=0)
    near = 1e-5 * x.shape[1] * size  # what single precision may confuse
    assert (own <= least + near).all()
    clear = (all_of_them <= (least + 2 * near)[:, None]).sum(1) <= 2
    clear &= (all_of_them <= (least + 1e-12 * size)[:, None]).sum(1) == 1
    np.testing.assert_array_equal(labels[clear], expected[clear])


@pytest.mark.parametrize("n", [0, 1, 19, 20, 500])  # FAISS changes its method at 20 queries
@pytest.mark.parametrize("k", [1, 2, 8])
@pytest.mark.parametrize("d", [1, 12, 130, 300])
def test_equals_a_plain_argmin(n, k, d):
    rng = np.random.default_rng(n + k + d)
    check(rng.normal(size=(n, d)).astype(np.float32), rng.normal(size=(k, d)).astype(np.float32))


@settings(max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 60),
    st.integers(1, 10),
    st.integers(1, 6),
    st.sampled_from([0.0, 1.0, 1e3, 1e6, -1e8]),
    st.sampled_from([1e-20, 1.0, 1e12]),
    st.sampled_from([np.float32, np.float64]),
)
def test_lattices_full_of_ties(seed, n, k, d, offset, size, dtype):
    rng = np.random.default_rng(seed)
    points = ((rng.integers(-2, 3, (n, d)) + offset) * size).astype(dtype)
    centroids = ((rng.integers(-2, 3, (k, d)) + offset) * size).astype(dtype)
    check(points, centroids)


def test_of_two_equal_centroids_the_lower_index_wins():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(200, 12)).astype(np.float32)
    once = rng.normal(size=(4, 12)).astype(np.float32)
    np.testing.assert_array_equal(assign(points, np.concatenate([once, once]))[0], assign(points, once)[0])


def test_a_point_halfway_goes_to_the_first_centroid():
    centroids = np.array([[3.0, 0], [-1, 0], [1, 0]], np.float32)
    points = np.zeros((50, 2), np.float32)
    labels, distances = assign(points, centroids)
    assert (labels == 1).all() and (distances == 1).all()


@pytest.mark.parametrize("offset", [1e4, 1e6])
def test_points_far_from_the_origin(offset):
    # ||x||^2 - 2 x.c + ||c||^2 in single precision has lost every digit of these distances
    rng = np.random.default_rng(1)
    points = (rng.normal(size=(300, 8)) + offset).astype(np.float32)
    check(points, points[:6] + np.float32(0.25))


def test_clusters_far_apart_and_close_together_at_once():
    rng = np.random.default_rng(2)
    centroids = np.array([[0, 0], [1e-4, 0], [1e5, 0], [1e5, 1e-2]], np.float32)
    check(centroids[rng.integers(0, 4, 400)] + rng.normal(size=(400, 2)).astype(np.float32) * 1e-4, centroids)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_tensors_in_tensors_out_without_gradient(dtype):
    points = torch.randn(30, 4, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    labels, distances = assign(points, points.detach()[:3])
    assert labels.dtype == torch.int64 and distances.dtype == torch.float32 and not distances.requires_grad
    np.testing.assert_array_equal(labels, plain(points.detach().numpy(), points.detach().numpy()[:3])[0])


def test_threads_change_nothing_and_batches_only_where_three_are_as_near():
    faiss = nearest.load_faiss()
    rng = np.random.default_rng(3)
    points, centroids = rng.normal(size=(40_000, 50)).astype(np.float32), rng.normal(size=(9, 50)).astype(np.float32)
    assert len(points) * centroids.size > nearest.SMALL  # on all threads
    before = faiss.omp_get_max_threads()
    try:
        results = []
        for threads in (1, 2):
            faiss.omp_set_num_threads(threads)
            results.append(assign(points, centroids)[0])
            assert faiss.omp_get_max_threads() == threads
    finally:
        faiss.omp_set_num_threads(before)
    one_by_one = np.concatenate([assign(point[None], centroids)[0] for point in points[:100]])
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0][:100], one_by_one)


def test_large_input_goes_in_chunks(monkeypatch):
    rng = np.random.default_rng(4)
    points, centroids = rng.normal(size=(333, 4)).astype(np.float32), rng.normal(size=(7, 4)).astype(np.float32)
    whole = assign(points, centroids)
    monkeypatch.setattr(nearest, "CHUNK", 100)
    assert len(nearest.chunks(333, 4)) == 14
    assert all(map(np.array_equal, assign(points, centroids), whole))


def test_faiss_does_the_work(monkeypatch):
    faiss = nearest.load_faiss()
    calls, real = [], faiss.IndexFlatL2

    class Spy(real):
        def search(self, x, k):
            calls.append(len(x))
            return super().search(x, k)

    monkeypatch.setattr(faiss, "IndexFlatL2", Spy)
    assign(np.zeros((5, 2), np.float32), np.ones((3, 2), np.float32))
    assert calls == [5]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_finite_is_refused(bad):
    points = np.ones((30, 2), np.float32)
    points[3, 1] = bad
    with pytest.raises(UserError, match="NaN or infinite"):
        assign(points, np.zeros((2, 2), np.float32))
    with pytest.raises(UserError, match="NaN or infinite"):
        assign(np.zeros((30, 2), np.float32), points[2:5])


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match=r"points \(n, d\)"):
        assign(np.zeros((3, 2)), np.zeros((2, 3)))


def test_missing_faiss_says_how_to_install_it(monkeypatch):
    real = builtins.__import__

    def without_faiss(name, *args, **kwargs):
        if name == "faiss":
            raise ImportError("No module named 'faiss'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_faiss)
    with pytest.raises(UserError, match="pip install 'faiss-cpu>=.* for an NVIDIA GPU"):
        assign(np.zeros((3, 2)), np.zeros((2, 2)))


@pytest.mark.gpu
def test_gpu_gives_the_same():
    faiss = nearest.load_faiss()
    if not torch.cuda.is_available() or not hasattr(faiss, "StandardGpuResources"):
        pytest.skip("needs a CUDA device and faiss-gpu")
    points = torch.randint(0, 4, (5000, 12), generator=torch.Generator().manual_seed(0)).float()
    labels, distances = assign(points.cuda(), points[:8].cuda(), "cuda")
    assert labels.is_cuda
    np.testing.assert_array_equal(labels.cpu(), assign(points, points[:8])[0])
    np.testing.assert_array_equal(distances.cpu(), assign(points, points[:8])[1])
