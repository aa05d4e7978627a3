"""Nearest centroid: as near as FAISS's single precision can tell, whatever the batch and the number of threads.

Labels are no longer a plain argmin in double precision: of centroids that are equally near within rounding FAISS
chooses, and not always the lowest index. What remains promised is in the docstring of `registry.numeric.nearest`.
"""

import builtins

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from registry.base import UserError
from registry.numeric import nearest
from registry.numeric.nearest import _search, assign, flat_index, load_faiss


def rounding(points, centroids):
    """What single precision leaves open of squared distances, (n,): the module's bound."""
    centre = centroids.mean(0, dtype=np.float64)
    radius = np.linalg.norm(centroids - centre, axis=1).max()
    return (points.shape[1] + 8) * 2.0**-23 * (np.linalg.norm(points - centre, axis=1) + radius) ** 2


def check(points, centroids):
    labels, distances = assign(points, centroids)
    exact = cdist(points.astype(np.float64), centroids.astype(np.float64), "sqeuclidean")
    own = exact[np.arange(len(points)), labels]
    assert labels.dtype == np.int64 and distances.dtype == np.float32
    assert (own <= exact.min(1) + rounding(points, centroids)).all()
    np.testing.assert_allclose(distances, own, rtol=1e-5)
    return labels


def ambiguous(points, centroids):
    """Whether a second centroid is as near as the nearest within rounding, (n,)."""
    exact = np.sort(cdist(points.astype(np.float64), centroids.astype(np.float64), "sqeuclidean"), axis=1)
    return exact[:, 1] - exact[:, 0] <= 2 * rounding(points, centroids)


@pytest.mark.parametrize("n", [0, 1, 19, 20, 500])  # FAISS changes its method at 20 queries
@pytest.mark.parametrize("k", [1, 2, 8])
@pytest.mark.parametrize("d", [1, 12, 130, 300])
def test_equals_a_plain_argmin_where_nothing_is_tied(n, k, d):
    rng = np.random.default_rng(n + k + d)
    points, centroids = rng.normal(size=(n, d)).astype(np.float32), rng.normal(size=(k, d)).astype(np.float32)
    clear = ~ambiguous(points, centroids) if k > 1 else np.ones(n, bool)
    labels = check(points, centroids)
    assert clear.sum() >= 0.98 * n
    np.testing.assert_array_equal(labels[clear], cdist(points, centroids).argmin(1)[clear])


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
def test_of_ties_on_lattices_one_of_the_nearest_is_given(seed, n, k, d, offset, size, dtype):
    rng = np.random.default_rng(seed)
    points = ((rng.integers(-2, 3, (n, d)) + offset) * size).astype(dtype)
    centroids = ((rng.integers(-2, 3, (k, d)) + offset) * size).astype(dtype)
    check(points, centroids)


@pytest.mark.parametrize("size", [1e-25, 1e200])
def test_coordinates_whose_squares_leave_single_precision(size):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(200, 3))
    with np.errstate(over="ignore"):  # squared distances are beyond it, too
        labels, _ = assign(points * size, points[:5] * size)
    np.testing.assert_array_equal(labels, assign(points, points[:5])[0])


def test_a_point_halfway_goes_to_one_of_the_two():
    centroids = np.array([[3.0, 0], [-1, 0], [1, 0]], np.float32)
    labels, distances = assign(np.zeros((50, 2), np.float32), centroids)
    assert set(labels) <= {1, 2} and (distances == 1).all()


@pytest.mark.parametrize("offset", [1e4, 1e6])
def test_points_far_from_the_origin(offset):
    # ||x||^2 - 2 x.c + ||c||^2 in single precision has lost every digit of these distances
    rng = np.random.default_rng(1)
    points = (rng.normal(size=(300, 8)) + offset).astype(np.float32)
    check(points, points[:6] + np.float32(0.25))


def test_tensors_in_tensors_out_without_gradient():
    for dtype in (torch.float32, torch.float64, torch.float16):
        points = torch.randn(30, 4, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
        labels, distances = assign(points, points.detach()[:3])
        assert labels.dtype == torch.int64 and distances.dtype == torch.float32 and not distances.requires_grad
        np.testing.assert_array_equal(labels, cdist(points.detach(), points.detach()[:3]).argmin(1))


def test_arrays_and_tensors_take_turns_and_get_the_same():
    """`faiss.contrib.torch_utils` patches FAISS for tensors; arrays still go, and tensors as they are (GPUs' way)."""
    rng = np.random.default_rng(3)
    points, centroids = rng.normal(size=(500, 6)).astype(np.float32), rng.normal(size=(8, 6)).astype(np.float32)
    index = flat_index(6, "cpu")
    for _ in range(2):
        arrays, tensors = assign(points, centroids), assign(torch.from_numpy(points), torch.from_numpy(centroids))
        direct = _search(index, torch.from_numpy(points), torch.from_numpy(centroids))
        assert isinstance(direct, torch.Tensor) and isinstance(arrays[0], np.ndarray)
        for found in (tensors[0], direct):
            np.testing.assert_array_equal(arrays[0], found)
        np.testing.assert_array_equal(arrays[1], tensors[1])


def test_read_only_and_strided_arrays():
    points = np.random.default_rng(4).normal(size=(6, 90)).astype(np.float32).T
    points.setflags(write=False)
    np.testing.assert_array_equal(assign(points, points[:4])[0], assign(points.copy(), points[:4].copy())[0])


def test_the_number_of_threads_changes_nothing_ties_included():
    faiss = load_faiss()
    rng = np.random.default_rng(3)
    points, centroids = rng.normal(size=(9000, 192)).astype(np.float32), rng.normal(size=(16, 192)).astype(np.float32)
    centroids = np.concatenate([centroids, centroids])  # with two threads FAISS itself gives some points otherwise
    before, results = faiss.omp_get_max_threads(), []
    try:
        for threads in (1, 2, 4):
            faiss.omp_set_num_threads(threads)
            results.append(assign(points, centroids)[0])
            assert faiss.omp_get_max_threads() == threads
    finally:
        faiss.omp_set_num_threads(before)
    for labels in results[1:]:
        np.testing.assert_array_equal(results[0], labels)


@pytest.mark.parametrize("d", [2, 12, 192])
@pytest.mark.parametrize("kind", ["normal", "twice"])
def test_batch_and_order_change_ties_alone(kind, d):
    rng = np.random.default_rng(d)
    points, centroids = rng.normal(size=(2000, d)).astype(np.float32), rng.normal(size=(16, d)).astype(np.float32)
    if kind == "twice":  # every point is tied
        centroids = np.concatenate([centroids, centroids])
    whole, order = assign(points, centroids)[0], rng.permutation(len(points))
    others = [
        np.concatenate([assign(points[i : i + size], centroids)[0] for i in range(0, len(points), size)])
        for size in (1, 19, 20, 333)
    ]
    others.append(assign(points[order], centroids)[0][np.argsort(order)])
    clear = ~ambiguous(points, centroids)
    assert clear.mean() > 0.98 if kind == "normal" else not clear.any()
    for labels in others:
        np.testing.assert_array_equal(whole[clear], labels[clear])
        np.testing.assert_array_equal(whole % 16, labels % 16)  # nor another than a tied one


def test_large_input_goes_in_slices(monkeypatch):
    rng = np.random.default_rng(4)
    points, centroids = rng.normal(size=(333, 4)).astype(np.float32), rng.normal(size=(7, 4)).astype(np.float32)
    whole = check(points, centroids)
    monkeypatch.setattr(nearest, "CHUNK", 100)
    np.testing.assert_array_equal(check(points, centroids), whole)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_not_finite_is_refused(bad, kind):
    points = np.ones((30, 2), np.float32)
    points[3, 1] = bad
    with pytest.raises(UserError, match="NaN or infinite coordinates"):
        assign(kind(points), kind(np.zeros((2, 2), np.float32)))
    with pytest.raises(UserError, match="NaN or infinite centroids"):
        assign(kind(np.zeros((30, 2), np.float32)), kind(points[2:5]))


def test_wrong_shapes_are_refused():
    for centroids in (np.zeros((2, 3)), np.zeros((0, 2)), np.zeros(2)):
        with pytest.raises(ValueError, match=r"points \(n, d\)"):
            assign(np.zeros((3, 2)), centroids)


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
def test_a_gpu_gives_as_near_a_centroid():
    faiss = load_faiss()
    if not torch.cuda.is_available() or not hasattr(faiss, "StandardGpuResources"):
        pytest.skip("needs a CUDA device and faiss-gpu")
    points = torch.randint(0, 4, (5000, 12), generator=torch.Generator().manual_seed(0)).float()
    labels, distances = assign(points.cuda(), points[:8].cuda(), "cuda")
    assert labels.is_cuda
    np.testing.assert_allclose(distances.cpu(), assign(points, points[:8])[1], rtol=1e-2, atol=1e-2)
