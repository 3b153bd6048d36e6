"""Distances between laws: unbiased, with an interval that covers, on features that a small classifier gives."""

import pytest
import torch
from torchmetrics.image.kid import poly_mmd

import multidrift as md
from multidrift.basics.numbers import weighted_mean
from multidrift.evaluation.features import DIGITS_FILE, digit_features, digits_classifier, trained_classifier
from multidrift.evaluation.laws import KernelDistance, average_distance, frechet_distance, kernel_distance
from multidrift.training.digits import digits, labels
from multidrift.training.features import accuracy, rescale_features, train_classifier


@pytest.fixture(scope="module")
def real():
    """2,000 training digits and the 1,000 held out, in [−1, 1]."""
    split = digits()
    return split.train[:2000], split.held_out


@pytest.fixture(scope="module")
def features(real):
    return digit_features(real[0]), digit_features(real[1])


def gaussians(count, repeats, shift, seed, dimensions=4):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(repeats, count, dimensions, generator=generator, dtype=torch.float64) + shift


def test_classifier_is_small_and_right(real):
    assert DIGITS_FILE.stat().st_size <= 2**20
    assert accuracy(trained_classifier(), real[1], labels()[1]) >= 0.97


def test_features_are_of_pictures(real):
    images = real[1][:7]
    found = digit_features(images)
    assert found.shape == (7, 64)
    assert found.dtype == torch.float64
    assert torch.allclose(digit_features(images, batch_size=3), found, atol=1e-5)
    # less than half of a grey level, and values beyond the range, are not seen
    assert torch.equal(digit_features(images * (1 + 1e-3)), found)
    assert digit_features(real[0]).square().mean() == pytest.approx(1, abs=0.05)


def test_estimate_is_that_of_torchmetrics(features):
    x, y = features[0][:300], features[1][:300]
    assert kernel_distance(x, y).value == pytest.approx(float(poly_mmd(x, y)), abs=1e-9)


def test_sets_of_other_sizes_and_order(features):
    x, y = features[0][:450], features[1][:300]
    there, back = kernel_distance(x, y), kernel_distance(y, x)
    assert there.value == pytest.approx(back.value, abs=1e-12)
    assert there.standard_error == pytest.approx(back.standard_error, abs=1e-12)
    shuffled = kernel_distance(x.flip(0), y.flip(0))
    assert shuffled.value == pytest.approx(there.value, abs=1e-12)


def test_standard_error_is_the_jackknife(features):
    """Against its definition: every draw left out in turn."""
    x, y = features[0][:12], features[1][:9]
    variance = 0.0
    for first, second in ((x, y), (y, x)):
        n = len(first)
        without = [torch.cat((first[:i], first[i + 1 :])) for i in range(n)]
        values = torch.tensor([kernel_distance(rest, second).value for rest in without])
        variance += float((values - values.mean()).square().sum()) * (n - 1) / n
    assert kernel_distance(x, y).standard_error == pytest.approx(variance**0.5, rel=1e-4)


def test_unbiased_over_splits_of_real_digits(features):
    """Over random splits of one set the mean of the estimates is zero."""
    every, generator = torch.cat(features), torch.Generator().manual_seed(0)
    values = []
    for _ in range(60):
        order = torch.randperm(len(every), generator=generator)
        values.append(kernel_distance(every[order[:200]], every[order[200:700]]).value)
    values = torch.tensor(values)
    assert abs(float(values.mean())) < 3 * float(values.std()) / len(values) ** 0.5
    assert values.min() < 0 < values.max()


def test_held_out_digits_are_not_told_from_training_digits(features):
    low, high = kernel_distance(features[1], features[0]).interval
    assert low < 0 < high


def test_grows_with_noise(real, features):
    noise = torch.randn(real[1].shape, generator=torch.Generator().manual_seed(0))
    noisy = [digit_features(real[1] + level * noise) for level in (0.1, 0.2, 0.4)]
    kernel = [kernel_distance(x, features[0]) for x in noisy]
    assert kernel[1].interval[0] > 0
    assert kernel[0].value < kernel[1].value < kernel[2].value
    frechet = [frechet_distance(x, features[0]) for x in noisy]
    assert frechet_distance(features[1], features[0]) < frechet[0] < frechet[1] < frechet[2]


def true_distance(shift, d=4):
    """That of N(0, I) and N(shift, I), from the moments that the cubic kernel compares, in closed form."""

    # E(x·y/d + 1)³ of independent x ~ N(a, I), y ~ N(b, I) from the moments of s = x·y, summed over d coordinates
    def expected(a, b):
        m1, m2, m3 = a * b, (1 + a * a) * (1 + b * b), (a**3 + 3 * a) * (b**3 + 3 * b)  # of one coordinate's product
        s1 = d * m1
        s2 = d * m2 + d * (d - 1) * m1**2
        s3 = d * m3 + 3 * d * (d - 1) * m2 * m1 + d * (d - 1) * (d - 2) * m1**3
        return s3 / d**3 + 3 * s2 / d**2 + 3 * s1 / d + 1

    return expected(0, 0) + expected(shift, shift) - 2 * expected(0, shift)


def test_interval_covers_where_the_laws_differ():
    """300 pairs of sets, and the true distance."""
    shift, true = 0.4, true_distance(0.4)
    pairs = zip(gaussians(80, 300, 0.0, 1), gaussians(120, 300, shift, 2), strict=True)
    found = [kernel_distance(x, y) for x, y in pairs]
    covered = sum(k.interval[0] <= true <= k.interval[1] for k in found) / len(found)
    assert 0.91 <= covered <= 0.98  # 0.95 and three standard errors, and a little for the skew of small sets
    values = torch.tensor([k.value for k in found])
    assert float(values.mean()) == pytest.approx(true, abs=3 * float(values.std()) / len(values) ** 0.5)
    errors = torch.tensor([k.standard_error for k in found])
    assert float(errors.square().mean().sqrt() / values.std()) == pytest.approx(1, abs=0.15)


def test_sets_of_the_same_noise_are_told_apart_by_far_fewer_draws():
    """300 sets beside themselves, moved: unbiased within three standard errors, which are right to a fifth."""
    sets = list(gaussians(60, 300, 0.0, 5))
    found = [kernel_distance(x, x + 0.2, coupled=True) for x in sets]
    values, errors = torch.tensor([[k.value, k.standard_error] for k in found]).T
    spread = float(values.std())
    assert float(values.mean()) == pytest.approx(true_distance(0.2), abs=3 * spread / len(values) ** 0.5)
    assert float(errors.square().mean().sqrt()) == pytest.approx(spread, rel=0.2)
    apart = [kernel_distance(x, y + 0.2) for x, y in zip(sets, gaussians(60, 300, 0.0, 6), strict=True)]
    assert spread < 0.5 * float(torch.tensor([k.value for k in apart]).std())
    with pytest.raises(md.MultidriftError, match="real: got 59; it takes as many as samples, 60"):
        kernel_distance(sets[0], sets[1][:59], coupled=True)


def test_the_error_of_a_weighted_mean_is_unbiased():
    """4,000 means of five values of variance 1/w: their variance is 1/Σw, and the mean squared error within 5%."""
    weights = torch.tensor([1.0, 1.0, 2.0, 4.0, 8.0], dtype=torch.float64)
    rows = gaussians(4000, 1, 0.0, 9, dimensions=5)[0] / weights.sqrt()
    found = torch.tensor([weighted_mean(row, weights) for row in rows])
    assert float(found[:, 0].var()) == pytest.approx(1 / 16, rel=0.07)  # three standard errors of a variance
    assert float(found[:, 1].square().mean()) == pytest.approx(1 / 16, rel=0.05)
    even = weighted_mean(rows[0], torch.ones(5))
    assert even == pytest.approx((float(rows[0].mean()), float(rows[0].std()) / 5**0.5))


def test_a_run_of_one_plan_is_not_the_mixture_of_all():
    """300 times eight runs of three sizes, moved up or down by their plan's luck: unbiased, with errors to a fifth."""
    sizes, luck = (4, 8, 8, 16) * 2, torch.Generator().manual_seed(7)
    means, mixed = [], []
    for every in gaussians(sum(sizes), 300, 0.0, 8):
        runs = every.split(sizes)
        shifts = torch.where(torch.rand(len(sizes), generator=luck) < 0.5, 0.4, -0.4).tolist()
        moved = [run + shift for run, shift in zip(runs, shifts, strict=True)]
        found = [kernel_distance(x, run, coupled=True) for x, run in zip(moved, runs, strict=True)]
        means.append(average_distance(found, sizes))
        mixed.append(kernel_distance(torch.cat(moved), every, coupled=True).value)
    values, errors = torch.tensor([[k.value, k.standard_error] for k in means]).T
    true, spread = true_distance(0.4), float(values.std())
    assert float(values.mean()) == pytest.approx(true, abs=3 * spread / len(means) ** 0.5)
    assert float(errors.square().mean().sqrt()) == pytest.approx(spread, rel=0.2)
    assert float(torch.tensor(mixed).mean()) < 0.5 * true
    assert average_distance([KernelDistance(1.0, 0.0), KernelDistance(4.0, 0.0)], [3, 4]).value == pytest.approx(3.0)
    with pytest.raises(md.MultidriftError, match="sizes: got .4.; it takes at least two samples for each of 1 runs"):
        average_distance([KernelDistance(0.0, 0.0)], [4])


def test_interval_covers_zero_for_one_law():
    """The estimate is degenerate there and the jackknife too large, by √2 at the most."""
    pairs = zip(gaussians(80, 300, 0.0, 3), gaussians(120, 300, 0.0, 4), strict=True)
    found = [kernel_distance(x, y) for x, y in pairs]
    covered = sum(k.interval[0] <= 0 <= k.interval[1] for k in found) / len(found)
    assert covered >= 0.94
    values = torch.tensor([k.value for k in found])
    errors = torch.tensor([k.standard_error for k in found])
    assert 1.0 < float(errors.square().mean().sqrt() / values.std()) < 1.65


def test_frechet_distance_of_gaussians():
    """‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2(Σ₁Σ₂)^½), with diagonal covariances."""
    x = gaussians(40_000, 1, 0.0, 5)[0]
    y = 2 * gaussians(40_000, 1, 0.0, 6)[0] + 1
    assert frechet_distance(x, y) == pytest.approx(4 * (1 + (2 - 1) ** 2), rel=0.03)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)


def test_interval_is_around_the_value():
    low, high = KernelDistance(1.0, 0.5).interval
    assert (low + high) / 2 == pytest.approx(1.0)
    assert high - low == pytest.approx(2 * 1.959964 * 0.5)


BAD = [
    (torch.zeros(5), torch.zeros(5, 2), r"samples: got \(5,\); it takes features of shape \[n, d\]"),
    (torch.zeros(5, 2), torch.zeros(5, 2, 2), r"real: got \(5, 2, 2\); it takes features of shape \[n, d\]"),
    (torch.zeros(1, 2), torch.zeros(5, 2), r"samples: got \(1, 2\); it takes features of shape .* at least"),
    (
        torch.zeros(5, 2),
        torch.zeros(5, 3),
        r"real: got \(5, 3\); it takes features of as many dimensions as samples, 2",
    ),
    (torch.zeros(5, 2), torch.full((5, 2), torch.nan), "real: got .*not finite"),
]


@pytest.mark.parametrize("distance", [kernel_distance, frechet_distance])
@pytest.mark.parametrize(("samples", "real", "message"), BAD)
def test_wrong_features(distance, samples, real, message):
    with pytest.raises(md.MultidriftError, match=message):
        distance(samples, real)


@pytest.mark.parametrize("shape", [(28, 28), (3, 3, 28, 28), (3, 1, 32, 32), (0, 1, 28, 28)])
def test_wrong_images(shape):
    with pytest.raises(md.MultidriftError, match=r"images: got .*; it takes shape \[n, 1, 28, 28\]"):
        digit_features(torch.zeros(shape))


def test_damaged_weights(tmp_path):
    file = tmp_path / "features.safetensors"
    file.write_bytes(b"nothing")
    with pytest.raises(md.MultidriftError, match="file: .*holds no weights of the digits' classifier"):
        trained_classifier(file)
    with pytest.raises(md.MultidriftError, match="file: "):
        trained_classifier(tmp_path / "absent.safetensors")


def test_training_learns_and_repeats(real):
    images, known = real[0][:800], labels()[0][:800]
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    runs = [list(train_classifier(images, known, epochs=2))[-1] for _ in range(2)]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert accuracy(runs[0].network, real[1], labels()[1]) > 0.6
    assert all(torch.equal(a, b) for a, b in zip(*(r.network.parameters() for r in runs), strict=True))
    network = runs[0].network
    with torch.no_grad():
        before = network(images[:9])
        rescale_features(network, images)
        assert torch.allclose(network(images[:9]), before, atol=1e-4)
    assert digit_features(images, network).square().mean() == pytest.approx(1, rel=1e-3)


def test_wrong_training():
    images, known = torch.zeros(4, 1, 28, 28), torch.zeros(4, dtype=torch.long)
    with pytest.raises(md.MultidriftError, match="labels: got '3 labels'; it takes one for each of 4 images"):
        next(train_classifier(images, known[:3]))
    with pytest.raises(md.MultidriftError, match="epochs: got 0"):
        next(train_classifier(images, known, epochs=0))
    with pytest.raises(md.MultidriftError, match="batch_size: got 0"):
        next(train_classifier(images, known, batch_size=0))
    with pytest.raises(md.MultidriftError, match="images: got"):
        next(train_classifier(images[0], known))


def test_untrained_network_has_ten_logits():
    assert digits_classifier()(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
