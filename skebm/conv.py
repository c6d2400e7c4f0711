"""ConvRBM: images in, features out."""

import math
from dataclasses import field
from functools import partial
from numbers import Integral
from typing import Any, Literal

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from skebm._shared import NonNegativeInt, PositiveFloat, PositiveInt, estimator
from skebm.base import BaseRBM, OfEncoding
from skebm.encoding import Images
from skebm.energy import GradientName
from skebm.engine.convolution import Convolution
from skebm.engine.gradients import Gradient
from skebm.engine.units import Bernoulli, Gaussian, Pooled, ScaledGaussian, Units
from skebm.fitting import RateSchedule
from skebm.rbm import VISIBLE, GreyValues, LearnedScales, TakesGreyValues


@estimator
class ConvRBM(LearnedScales, TakesGreyValues, BaseRBM):
    """Convolutional restricted Boltzmann machine: filters are applied at every place of an image.

    The visible units are the pixels of an image with channels, v_c(i, j). Each map h_f(i, j) of
    the hidden layer has one filter W_f, which is applied to a window at every place of the
    image, and one bias c_f; each channel has one bias b_c [1]_. With the correlation of filter
    and image, in steps of s pixels ::

        x_f(i, j)  = c_f + Σ_{c,k,l} W_fckl v_c(s i + k, s j + l)

    the joint distribution of an image and its maps is p(v, h) = exp(−E(v, h)) / Z with ::

        E(v, h)    = −Σ_c b_c Σ_ij v_c(i, j) − Σ_f Σ_ij h_f(i, j) x_f(i, j)
        P(h_f(i, j) = 1 | v) = σ(x_f(i, j))                          without pooling
        F(v)       = −Σ_c b_c Σ_ij v_c(i, j) − Σ_f Σ_ij softplus(x_f(i, j))

    With `pool_size`, at most one unit of each block of a map is 1 (probabilistic
    max-pooling) ::

        P(h_f(i, j) = 1 | v) = exp(x_f(i, j)) / (1 + Σ_block exp(x_f))
        F(v)       = −Σ_c b_c Σ_ij v_c(i, j) − Σ_blocks log(1 + Σ_block exp(x_f))

    and a feature is the probability that one unit of a block is 1. Real-valued pixels
    (`visible="gaussian"`) add ½ ‖v‖² to E and F. Given h they are N(b_c + Σ_f W_f ∗ h_f, 1),
    where v is (pixel − location) / σ, with a location and a σ for each channel. Inputs, outputs
    and densities are on the scale of the data, as in :class:`GaussianRBM`.

    The model equals a dense one whose weight matrix holds the filters at every place, and its
    methods are as exact. Gradients are averages over all places, so that a learning rate has
    the same effect for images of any size.

    Parameters
    ----------
    n_components : int, default=32
        Number of filters.
    learning_rate : float, default=1.0
        Step along the mean gradient of a batch, for one place.
    batch_size : int, default=10
        Images in a batch.
    n_iter : int or None, default=None
        Number of epochs. None makes as many as 2000 updates take, at least 10 and at most 100.
    %(training)s
    kernel_size : int or (int, int), default=5
        Height and width of a filter, which are limited to those of the image.
    image_shape : "auto" or tuple of int, default="auto"
        (height, width), or with `channels_last` (height, width, channels) and without (channels,
        height, width): the image shape of a row. With "auto", if X has more than two dimensions,
        this is the shape of its images; otherwise it is a square if the number of features is a
        square number, else one row of pixels.
    channels_last : bool, default=True
        Whether channels are the last axis of an image; False means the first axis.
    visible : {"bernoulli", "gaussian", "continuous"}, default="bernoulli"
        Type of the pixels. "bernoulli": 0 or 1, or a grey value as its probability. "gaussian": a
        real number. "continuous": a number in [0, 1], as in :class:`BernoulliRBM`.
    variance : {"learned", "fixed"}, default="learned"
        Value of σ for real-valued pixels. "fixed": the standard deviation of the channel in the
        training data. "learned": starts there and stays between 0.1 and √2 times this value.
    pool_size : int or None, default=None
        Height and width of the blocks in which at most one unit is 1; blocks at the far edges may
        be smaller. None means no pooling.
    stride : int, default=1
        Step between neighbouring places of a filter, in pixels.
    grey_values : {"auto", "mean", "sample"}, default="auto"
        As in :class:`BernoulliRBM`.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_channels, kernel_height, kernel_width)
        Filters W.
    intercept_visible_ : ndarray of shape (n_channels,)
        Visible biases b.
    noise_share_ : float
        As in :class:`BernoulliRBM`.
    image_shape_ : tuple of 3 int
        Shape of an image, channels included.
    input_shape_ : tuple of int
        Shape of one row, or image, of X. Methods that return rows return them in this shape.
    kernel_shape_ : (int, int)
        Height and width of a filter.
    location_, scale_ : ndarray of shape (n_features,)
        Mean and standard deviation of each pixel's channel if `visible` is "gaussian"; else
        0 and 1.
    log_scales_ : ndarray of shape (n_channels,)
        log (σ / scale), if `variance` is "learned".
    %(fitted)s

    See Also
    --------
    BernoulliRBM : With a weight of its own for each pixel.
    ComponentsDisplay : Draws the filters.

    Notes
    -----
    All methods that accept rows also accept images, in arrays of shape
    (n_samples, `*image_shape_`), or (n_samples, height, width) for one channel. Masks (`clamped`)
    may be images as well.

    Convolutions always use full precision; `precision` does not affect them.

    The default gradient, contrastive divergence, learns features quickly and reliably. To sample,
    to fill in missing pixels, or to compute likelihoods, use `gradient="pcd"`.

    Filters should be about as large as the strokes or edges to detect. There are many features,
    n_components times the number of places over pool_size², and each varies little: scale them
    before a linear model. For mostly empty images of strokes, a `sparsity_target` of one or a few
    hundredths and a `learning_rate` of several units give filters that detect the strokes.
    Pixels near the border of an image are covered by few filter places, a corner by only one.
    If the border is not empty, some filters learn to detect it. Two such models can be stacked:
    the maps of the first are the channels of the second,
    `ConvRBM(image_shape=first.maps_shape_, channels_last=False)`.

    References
    ----------
    .. [1] H. Lee, R. Grosse, R. Ranganath, A. Y. Ng (2009). Convolutional deep belief networks
       for scalable unsupervised learning of hierarchical representations. ICML.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.svm import SVC
    >>> from skebm import ConvRBM
    >>> X, y = load_digits(return_X_y=True)  # rows of 8 x 8 pixels
    >>> rbm = ConvRBM(16, kernel_size=3, n_iter=10, random_state=0)
    >>> model = make_pipeline(rbm, SVC(C=10))
    >>> model.fit(X[:1000] / 16, y[:1000]).score(X[1000:] / 16, y[1000:]) > 0.93
    True
    >>> rbm.transform_maps(X[:1] / 16).shape
    (1, 16, 6, 6)
    """

    n_components: PositiveInt = field(default=32, kw_only=False)
    learning_rate: PositiveFloat = 1.0
    n_iter: NonNegativeInt | None = None
    gradient: GradientName | Gradient = "cd"
    learning_rate_schedule: RateSchedule = "linear"
    max_grad_norm: PositiveFloat | None = 0.1
    kernel_size: PositiveInt | tuple[int, int] | list[int] = 5
    image_shape: Literal["auto"] | tuple[int, ...] | list[int] = "auto"
    channels_last: bool = True
    visible: Literal["bernoulli", "gaussian", "continuous"] = "bernoulli"
    variance: Literal["learned", "fixed"] = "learned"
    pool_size: PositiveInt | None = None
    stride: PositiveInt = 1
    grey_values: GreyValues = "auto"

    _epochs = (2000, 10, 100)
    _outside_support = 'Scale it with MinMaxScaler, or set visible="gaussian" for real-valued data.'

    image_shape_ = OfEncoding()
    input_shape_ = OfEncoding()
    location_ = OfEncoding()
    scale_ = OfEncoding()

    def _encoding(self):
        return Images(self.image_shape, self.channels_last, self.visible == "gaussian")

    def _units(self):
        visible: Units = VISIBLE.get(self.visible, Bernoulli)()
        if self.visible == "gaussian":
            visible = Gaussian(self.temperature)
            if self.variance == "learned":
                scales = torch.zeros(self.encoding_.n_channels)
                axis = self.encoding_.channel_axis
                visible = ScaledGaussian(scales, self.temperature, self.image_shape_, axis)
        if self.pool_size is None:
            return visible, Bernoulli()
        return visible, Pooled(self._unpooled_shape(), self.pool_size)

    def _coupling(self, precision):
        return partial(
            Convolution,
            sides=self.encoding_.sides,
            stride=self.stride,
            channels_last=self.channels_last,
        )

    def _row_products(self, data):
        return math.inf  # a filter is applied at many places

    def _weights_shape(self, n_visible):
        return self.n_components, self.encoding_.n_channels, *self._kernel_shape()

    def _weights_spread(self, visible, hidden, n_visible):
        return 0.05

    # Shapes

    def _kernel_shape(self):
        size = self.kernel_size
        sizes = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
        if len(sizes) != 2 or any(not isinstance(n, Integral) or n < 1 for n in sizes):
            raise ValueError(
                f"kernel_size must be a positive integer or two of them; got {size!r}."
            )
        return tuple(min(k, side) for k, side in zip(sizes, self.encoding_.sides))

    def _unpooled_shape(self):
        """Number of filters, height and width of the maps before pooling."""
        pairs = zip(self.encoding_.sides, self._kernel_shape())
        return self.n_components, *((side - k) // self.stride + 1 for side, k in pairs)

    @property
    def kernel_shape_(self) -> tuple[int, ...]:
        """Height and width of a filter."""
        return self.components_.shape[2:]

    @property
    def maps_shape_(self) -> tuple[int, ...]:
        """Number of filters, height and width of the maps of `transform`, after pooling."""
        check_is_fitted(self)
        n_filters, *sides = self._unpooled_shape()
        return n_filters, *(-(-side // (self.pool_size or 1)) for side in sides)

    @property
    def _n_features_out(self):
        return math.prod(self.maps_shape_)

    def transform_maps(self, X: Any) -> np.ndarray:
        """The features of :meth:`transform`, as maps.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, `*image_shape_`)

        Returns
        -------
        maps : ndarray of shape (n_samples, n_components, height, width)
            E[h | v] of each filter at each place or, with pooling, the probability that a unit
            of the block is 1.
        """
        features = self.transform(X)
        return features.reshape(len(features), *self.maps_shape_)
