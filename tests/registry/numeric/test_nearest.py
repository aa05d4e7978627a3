"""Nearest centroid: the labels of a plain argmin, however FAISS rounds, threads or orders its work."""

import builtins

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.base import UserError
from registry.numeric import few_centroids, nearest
from registry.numeric.nearest import assign, squared_distances


@pytest.fixture(params=[nearest.FEW, 0], ids=["compiled", "FAISS"], autouse=True)
def way(request, monkeypatch):
    """Few centroids go through compiled loops, many through FAISS: every test for both."""
    monkeypatch.setattr(nearest, "FEW", request.param)


def plain(points, centroids):
    distances = ((points.astype(np.float64)[:, None] - centroids.astype(np.float64)[None]) ** 2).sum(-1)
    return distances.argmin(1), distances.min(1)


def check(points, centroids):
    labels, distances = assign(points, centroids)
    expected_labels, expected_distances = plain(points, centroids)
    np.testing.assert_array_equal(labels, expected_labels)
    np.testing.assert_array_equal(distances, expected_distances.astype(np.float32))
    assert labels.dtype == np.int64 and distances.dtype == np.float32


@pytest.mark.parametrize("n", [0, 1, 19, 20, 500])  # FAISS changes its method at 20 queries
@pytest.mark.parametrize("k", [1, 2, 8])
@pytest.mark.parametrize("d", [1, 12, 130, 300])
def test_equals_a_plain_argmin(n, k, d):
    rng = np.random.default_rng(n + k + d)
    check(rng.normal(size=(n, d)).astype(np.float32), rng.normal(size=(k, d)).astype(np.float32))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 60),
    st.integers(1, 10),
    st.integers(1, 6),
    st.sampled_from([0.0, 1.0, 1e3, 1e6, -1e8]),
    st.sampled_from([1e-20, 1.0, 1e12]),
    st.sampled_from([np.float32, np.float64]),
)
def test_equals_a_plain_argmin_on_lattices_full_of_ties(seed, n, k, d, offset, size, dtype):
    rng = np.random.default_rng(seed)
    points = ((rng.integers(-2, 3, (n, d)) + offset) * size).astype(dtype)
    centroids = ((rng.integers(-2, 3, (k, d)) + offset) * size).astype(dtype)
    check(points, centroids)


def test_lowest_index_wins_among_duplicated_centroids():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(200, 12)).astype(np.float32)
    once = rng.normal(size=(4, 12)).astype(np.float32)
    labels, _ = assign(points, np.concatenate([once, once, once]))
    assert labels.max() <= 3
    np.testing.assert_array_equal(labels, assign(points, once)[0])


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


def test_threads_and_batches_change_nothing():
    faiss = nearest.load_faiss()
    rng = np.random.default_rng(3)
    points, centroids = rng.integers(0, 4, (4000, 5)).astype(np.float32), rng.integers(0, 4, (9, 5)).astype(np.float32)
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
    monkeypatch.setattr(few_centroids, "CHUNK", 100)
    for module in (nearest, few_centroids):
        monkeypatch.setattr(module, "CACHED", 100)
    rng = np.random.default_rng(4)
    check(rng.integers(0, 3, (333, 4)).astype(np.float32), rng.integers(0, 3, (7, 4)).astype(np.float32))


def test_coarse_hardware_rounding_is_caught(monkeypatch):
    # A GPU may multiply in TF32: rounding FAISS's distances so coarsely must not show.
    rng = np.random.default_rng(5)
    points, centroids = rng.normal(size=(500, 6)).astype(np.float32), rng.normal(size=(8, 6)).astype(np.float32)

    def coarse(x, c, device):
        noise = rng.uniform(-1, 1, (len(x), len(c))) * 2.0**-11 * (np.abs(x) @ np.abs(c).T)
        distances = squared_distances(x, c) + 2 * noise
        order = np.argsort(distances, axis=1)[:, :2]
        return np.take_along_axis(distances, order, 1).astype(np.float32), order, nearest.ROUNDING["gpu"]

    monkeypatch.setattr(nearest, "_search", coarse)
    monkeypatch.setattr(nearest, "FEW", 0)
    check(points, centroids)


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
    monkeypatch.setattr(nearest, "FEW", 1)
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
