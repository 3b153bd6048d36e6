"""Targets for Langevin dynamics: scores against autograd, and the kept reference against what it should agree with."""

import numpy as np
import pytest
import torch

import multidrift as md

TARGETS = {
    "regression": md.LogisticRegression.breast_cancer(),
    "wide prior": md.LogisticRegression([[0.5, 1.0], [-2.0, 0.3], [1.0, 1.0]], [0, 1, 1], prior_std=3.0),
    "ill-conditioned": md.GaussianMixture.ill_conditioned(5, 100.0),
    "gaussian": md.GaussianMixture.gaussian([1.0, -1.0], [[2.0, 0.5], [0.5, 1.0]]),
}


@pytest.fixture(scope="module")
def posterior():
    return md.breast_cancer_posterior()


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_score_is_the_gradient(target):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((7, *target.shape), generator=generator, dtype=torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(target.log_density(x).sum(), x)
    torch.testing.assert_close(target.score(x.detach()), gradient, atol=1e-10, rtol=1e-10)


def test_dtype_and_rows():
    target = TARGETS["regression"]
    x = torch.randn(4, 31)
    assert target.score(x).dtype == torch.float32
    assert target.log_density(x).shape == (4,)
    torch.testing.assert_close(target.score(x)[2:3], target.score(x[2:3]))


def test_log_density_by_its_definition():
    target = TARGETS["wide prior"]
    x = torch.tensor([[0.3, -0.2, 0.7]], dtype=torch.float64)
    logits = [0.3 - 0.1 + 0.7, 0.3 + 0.4 + 0.21, 0.3 - 0.2 + 0.7]
    expected = -np.log1p(np.exp(logits[0])) - np.log1p(np.exp(-logits[1])) - np.log1p(np.exp(-logits[2]))
    expected -= (0.09 + 0.04 + 0.49) / 18
    assert float(target.log_density(x)) == pytest.approx(expected, abs=1e-12)


def test_ill_conditioned_has_its_condition():
    values = torch.linalg.eigvalsh(TARGETS["ill-conditioned"].covariance)
    assert float(values.max() / values.min()) == pytest.approx(100)
    assert float(values.max()) == pytest.approx(1)


def test_laplace_is_the_mode_and_its_curvature():
    for name in ("regression", "wide prior"):
        target = TARGETS[name]
        mode, covariance = target.laplace()
        assert float(target.score(mode[None]).abs().max()) < 1e-9
        hessian = torch.autograd.functional.hessian(lambda x, of=target: of.log_density(x[None])[0], mode)
        torch.testing.assert_close(covariance @ -hessian, torch.eye(len(mode), dtype=torch.float64), atol=1e-9, rtol=0)


def test_reference_is_sound(posterior):
    assert posterior.r_hat < 1.001
    assert posterior.effective > 100_000
    assert posterior.mean.shape == (31,)
    assert posterior.total_error < 0.001
    assert posterior.quantiles.shape == (len(posterior.levels), 31)
    assert (np.diag(posterior.covariance_error) < 0.01 * np.diag(posterior.covariance)).all()
    assert (np.diff(posterior.quantiles, axis=0) > 0).all()
    np.testing.assert_allclose(posterior.covariance, posterior.covariance.T)


def test_reference_is_near_the_laplace_approximation(posterior):
    mode, covariance = TARGETS["regression"].laplace()
    spread = np.sqrt(np.diag(posterior.covariance))
    assert (np.abs(posterior.mean - mode.numpy()) < 0.5 * spread).all()
    ratio = np.diag(posterior.covariance) / np.diag(covariance.numpy())
    assert ratio.min() > 0.8
    assert ratio.max() < 1.6


def test_reference_agrees_with_importance_sampling(posterior):
    """An independent exact method: a wide normal around the mode, reweighted."""
    target = TARGETS["regression"]
    mode, covariance = target.laplace()
    generator = torch.Generator().manual_seed(1)
    wide = 1.1 * torch.linalg.cholesky(covariance)
    normal = torch.randn((100_000, 31), generator=generator, dtype=torch.float64)
    x = mode + normal @ wide.T
    weight = torch.softmax(target.log_density(x) + 0.5 * normal.square().sum(dim=1), dim=0)
    effective = 1 / float(weight.square().sum())
    assert effective > 1000
    mean = weight @ x
    centred = x - mean
    variance = weight @ centred.square()
    mean_error = (weight.square() @ centred.square()).sqrt()
    variance_error = (weight.square() @ (centred.square() - variance).square()).sqrt()
    apart = (mean.numpy() - posterior.mean) / np.hypot(mean_error.numpy(), posterior.mean_error)
    assert np.abs(apart).max() < 4.5
    reference, error = np.diag(posterior.covariance), np.diag(posterior.covariance_error)
    apart = (variance.numpy() - reference) / np.hypot(variance_error.numpy(), error)
    assert np.abs(apart).max() < 4.5


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: md.LogisticRegression([1.0, 2.0], [0, 1]), "features: got"),
        (lambda: md.LogisticRegression([[1.0], [np.nan]], [0, 1]), "features: got"),
        (lambda: md.LogisticRegression([[1.0], [2.0]], [0, 1, 1]), "labels: got"),
        (lambda: md.LogisticRegression([[1.0], [2.0]], [0, 2]), "labels: got"),
        (lambda: md.LogisticRegression([[1.0], [2.0]], [0, 1], prior_std=0.0), "prior_std: got 0.0"),
        (lambda: TARGETS["regression"].score(torch.zeros(3, 30)), r"x: got \(3, 30\); it takes a tensor \[n, 31\]"),
        (lambda: TARGETS["regression"].log_density(torch.zeros(31)), r"x: got \(31,\)"),
        (lambda: md.GaussianMixture.ill_conditioned(1, 10.0), "dimension: got 1"),
        (lambda: md.GaussianMixture.ill_conditioned(3, 0.5), "condition: got 0.5"),
        (lambda: md.GaussianMixture.gaussian([[0.0]], [[1.0]]), "mean: got"),
        (lambda: md.GaussianMixture.gaussian([0.0, 1.0], [[1.0]]), "covariance: got"),
    ],
)
def test_wrong_calls_say_what_they_take(wrong, message):
    with pytest.raises(md.MultidriftError, match=message):
        wrong()
