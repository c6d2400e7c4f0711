"""
==================================================
Filters of photographs, and hidden parts of digits
==================================================

A convolutional RBM applies its filters at every place of an image. From pieces of two
photographs it learns edges, bars and gratings of all orientations, and some blobs.

It is also a model of images, so it can fill in hidden parts. Gibbs sampling with the visible
pixels clamped draws the hidden pixels from their conditional distribution.

As a script, this example prints a table and draws `filters_and_occlusion.png`.
"""
# sphinx_gallery_thumbnail_path = "filters_and_occlusion.png"

# %%
# Photographs
# -----------
# Neighbouring pixels are nearly equal, and a model of raw pixels learns little else. Therefore each
# frequency is multiplied by its magnitude, which gives all frequencies about the same power (the
# filter of Olshausen and Field, which also removes the highest frequencies). Then the contrast is
# made equal in all parts of the image.

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_digits, load_sample_images
from sklearn.feature_extraction.image import extract_patches_2d
from sklearn.model_selection import train_test_split

from skebm import ComponentsDisplay, ConvRBM


def whitened(photograph):
    """The photograph in grey, with a flat spectrum and even contrast."""
    grey = np.log(photograph.mean(axis=2) + 20)
    rows, columns = (np.fft.fftfreq(side) for side in grey.shape)
    frequency = np.hypot(rows[:, None], columns)
    flat = np.fft.fft2(grey) * frequency * np.exp(-((frequency / 0.35) ** 4))
    image = np.fft.ifft2(flat).real
    image /= np.sqrt(gaussian_filter(image**2, 20))
    return image[10:-10, 10:-10]  # without the edges, which the Fourier transform joins


patches = np.concatenate(
    [
        extract_patches_2d(whitened(photograph), (32, 32), max_patches=1000, random_state=0)
        for photograph in load_sample_images().images
    ]
)

# %%
# Few places of a filter cover the border of a patch, and filters would learn to detect the border.
# Therefore the patches fade out towards the border.

distance = np.minimum(np.arange(32), np.arange(32)[::-1]) + 0.5
fade = np.sin(np.pi / 2 * np.minimum(distance / 8, 1)) ** 2
patches = (patches * np.outer(fade, fade)).astype(np.float32)

# %%
# Filters
# -------
# Two settings give filters that detect edges. `sparsity_target` makes each hidden unit rarely
# active. `pool_size` allows only one active unit in each block of 2 x 2 places. The variance is
# fixed: a learned variance would become very small, because these patches have almost no noise.

edges = ConvRBM(
    36,
    kernel_size=9,
    pool_size=2,
    visible="gaussian",
    variance="fixed",
    sparsity_target=0.02,
    n_iter=8,
    random_state=0,
).fit(patches)

# %%
# Digits
# ------
# The digits have 8 x 8 grey pixels, so the visible units are "continuous". A filter of 7 x 7 pixels
# covers almost all of a digit, at four places. Smaller filters cover too little of it to predict
# the missing part. Persistent chains (`gradient="pcd"`) give models that are good for sampling.

data = load_digits()
known, others, _, labels = train_test_split(data.images / 16, data.target, random_state=0)
strokes = ConvRBM(
    64,
    kernel_size=7,
    visible="continuous",
    gradient="pcd",
    learning_rate=0.3,
    max_grad_norm=None,
    batch_size=20,
    n_iter=100,
    random_state=0,
).fit(known)

# %%
# Hidden parts
# ------------
# A quarter or a half of each test digit is hidden. `impute` returns the mean of the hidden pixels
# given the others. `gibbs` draws one sample, which looks more like a digit but has a larger error.

HIDDEN = {"lower right": np.s_[4:, 4:], "lower half": np.s_[4:, :]}
rows = []
print(f"{'mean squared error where hidden':<34}{'pixel means':<14}{'impute':<10}one sample")
for name, part in HIDDEN.items():
    seen = np.ones((8, 8), dtype=bool)
    seen[part] = False
    occluded = np.where(seen, others, np.nan)
    filled = strokes.impute(occluded, 500, random_state=0)
    sample = strokes.gibbs(np.where(seen, others, 0), 500, clamped=seen, random_state=0)
    errors = [
        np.mean((guess - others)[:, ~seen] ** 2) for guess in (known.mean(axis=0), filled, sample)
    ]
    print(f"{name:<34}{errors[0]:<14.3f}{errors[1]:<10.3f}{errors[2]:.3f}")
    rows += [(f"{name} hidden", occluded), ("mean", filled), ("sample", sample)]
rows = [("held-out digits", others), *rows]

# %%
# The figure shows the filters on the left. On the right it shows one test digit of each class;
# hidden pixels are blue.

figure = plt.figure(figsize=(12.6, 5.2))
left, right = figure.subplots(
    1,
    2,
    width_ratios=(4.8, 7.6),
    gridspec_kw={"left": 0.01, "right": 0.99, "bottom": 0.02, "top": 0.93, "wspace": 0.02},
)
left.set_title("filters learned from photographs")
ComponentsDisplay.from_estimator(edges, ax=left, n_columns=6)
right.set_title("digits, and what the model fills in")
right.set_axis_off()
(x0, y0), (x1, y1) = right.get_position().get_points()
grid = figure.add_gridspec(
    len(rows), 10, left=x0 + 0.11, right=x1, bottom=y0, top=y1, wspace=0.08, hspace=0.08
)
first = [np.flatnonzero(labels == digit)[0] for digit in range(10)]
gray = matplotlib.colormaps["gray"].with_extremes(bad="tab:blue")
for places, (name, images) in zip(grid.subplots(), rows):
    places[0].text(-1.5, 3.5, name, ha="right", va="center")
    for place, image in zip(places, images[first]):
        place.imshow(image, cmap=gray, vmin=0, vmax=1)
        place.set_axis_off()
figure.savefig("filters_and_occlusion.png", dpi=150)
print("\nThe filters and the digits are drawn in filters_and_occlusion.png")
