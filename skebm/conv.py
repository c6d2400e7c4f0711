"""ConvRBM: images in, features out."""

import math
from dataclasses import field
from functools import partial
from numbers import Integral

import torch
from sklearn.utils.validation import check_is_fitted

from skebm._shared import estimator
from skebm._sklearn import Interval, StrOptions
from skebm.base import BaseRBM, OfEncoding
from skebm.encoding import Images
from skebm.engine.convolution import Convolution
from skebm.engine.gradients import Gradient
from skebm.engine.units import Bernoulli, Gaussian, Pooled, ScaledGaussian, Units
from skebm.rbm import VISIBLE


@estimator
class ConvRBM(BaseRBM):
    """Convolutional restricted Boltzmann machine: filters that look at every place of an image.

    The visible units are the pixels of an image with channels, v_c(i, j). Each of the hidden
    layer's maps h_f(i, j) has one filter W_f, which sees a window of the image at every place,
    and one bias c_f; each channel has one bias b_c [1]_. With the correlation of filter and
    image, in steps of s pixels ::

        x_f(i, j)  = c_f + Σ_{c,k,l} W_fckl v_c(s i + k, s j + l)

    the joint law of an image and its maps is p(v, h) = exp(−E(v, h)) / Z with ::

        E(v, h)    = −Σ_c b_c Σ_ij v_c(i, j) − Σ_f Σ_ij h_f(i, j) x_f(i, j)
        P(h_f(i, j) = 1 | v) = σ(x_f(i, j))                          without pooling
        F(v)       = −Σ_c b_c Σ_ij v_c(i, j) − Σ_f Σ_ij softplus(x_f(i, j))

    With `pool_size`, at most one unit of each block of a map is 1 (probabilistic
    max-pooling) ::

        P(h_f(i, j) = 1 | v) = exp(x_f(i, j)) / (1 + Σ_block exp(x_f))
        F(v)       = −Σ_c b_c Σ_ij v_c(i, j) − Σ_blocks log(1 + Σ_block exp(x_f))

    and a feature is the probability that one is. Real-valued pixels (`visible="gaussian"`) add
    ½ ‖v‖² to E and F and have the law N(b_c + Σ_f W_f ∗ h_f, 1) given h, where v is
    (pixel − location) / σ, with a location and a σ for each channel; densities and all that goes
    in or comes out are on the scale of the data, as in :class:`GaussianRBM`.

    It is the dense model whose matrix holds the filters at every place, and every method is as
    exact. Gradients are those of one place, on average over all: a learning rate means the same
    whatever the size of the images.

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
        Height and width of a filter; an image that is smaller has filters of its own size.
    image_shape : "auto" or tuple of int, default="auto"
        (height, width), or with `channels_last` (height, width, channels) and without (channels,
        height, width): how the features of a row lie in an image. "auto" takes the shape of the
        images, where X has more than two dimensions; of rows, a square where the number of
        features is a square number, and one row of pixels otherwise.
    channels_last : bool, default=True
        Whether channels are the last axis of images, or the first of each.
    visible : {"bernoulli", "gaussian", "continuous"}, default="bernoulli"
        What a pixel is: 0 or 1, for which grey values may stand; a real number; a number in
        [0, 1], as in :class:`BernoulliRBM`.
    variance : {"learned", "fixed"}, default="learned"
        What σ is, for real-valued pixels: "fixed" is the standard deviation of the channel in the
        training data; "learned" starts there and is kept between 0.1 and √2 of it.
    pool_size : int or None, default=None
        Height and width of the blocks of which at most one unit is 1; blocks at the far edges may
        be smaller. None pools nothing.
    stride : int, default=1
        Pixels from one place of a filter to the next.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_channels, kernel_height, kernel_width)
        Filters W.
    intercept_visible_ : ndarray of shape (n_channels,)
        Visible biases b.
    image_shape_ : tuple of 3 int
        Shape of an image, channels included.
    input_shape_ : tuple of int
        Shape of one of the rows, or images, of X: that of everything in the place of X that
        methods return.
    kernel_shape_ : (int, int)
        Height and width of a filter.
    location_, scale_ : ndarray of shape (n_features,)
        Mean and standard deviation of each pixel's channel, where `visible` is "gaussian"; else
        0 and 1.
    log_scales_ : ndarray of shape (n_channels,)
        log (σ / scale), where it is learned.
    %(fitted)s

    See Also
    --------
    BernoulliRBM : With a weight of its own for each pixel.
    ComponentsDisplay : Draws the filters.

    Notes
    -----
    Wherever rows are taken, images are too, in arrays of the shape (n_samples, *image_shape_), or
    (n_samples, height, width) where there is one channel; masks (`clamped`) may be images as well.

    Convolutions are never rounded, whatever `precision` says.

    Contrastive divergence, the default, makes features quickly and safely. To sample, to fill in
    what is hidden, or for likelihoods, take `gradient="pcd"`.

    Filters should be as large as the strokes or edges that they are to find. Features are many,
    n_components times the number of places over pool_size², and each varies little: scale them
    before a linear model. Where images of strokes are mostly empty, a `sparsity_target` of a
    hundredth or a few, for each unit of a map, and a `learning_rate` of several make filters that
    find the strokes. Pixels at the rim of an image are seen from few places, a corner from one:
    where something is there, some filters learn to tell rims, unless images fade out. Two of these
    models stack: the maps of one are the channels of the next,
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

    n_components: int = field(default=32, kw_only=False)
    learning_rate: float = 1.0
    n_iter: int | None = None
    gradient: str | Gradient = "cd"
    learning_rate_schedule: str = "linear"
    max_grad_norm: float | None = 0.1
    kernel_size: int | tuple[int, int] = 5
    image_shape: str | tuple[int, ...] = "auto"
    channels_last: bool = True
    visible: str = "bernoulli"
    variance: str = "learned"
    pool_size: int | None = None
    stride: int = 1

    _epochs = (2000, 10, 100)
    _for_real_values = 'set visible="gaussian"'
    _parameter_constraints = {
        **BaseRBM._parameter_constraints,
        "n_iter": [Interval(Integral, 0, None, closed="left"), None],
        "kernel_size": [Interval(Integral, 1, None, closed="left"), tuple, list],
        "image_shape": [StrOptions({"auto"}), tuple, list],
        "channels_last": ["boolean"],
        "visible": [StrOptions({"bernoulli", "gaussian", "continuous"})],
        "variance": [StrOptions({"learned", "fixed"})],
        "pool_size": [Interval(Integral, 1, None, closed="left"), None],
        "stride": [Interval(Integral, 1, None, closed="left")],
    }

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

    def _weights_shape(self, n_visible):
        return self.n_components, self.encoding_.n_channels, *self._kernel_shape()

    def _weights_spread(self, visible, hidden, n_visible):
        return 0.05

    def _training_settings(self):
        return super()._training_settings() | {"stride": self.stride, "pool_size": self.pool_size}

    # Shapes

    def _check_same_shape(self):
        super()._check_same_shape()
        if self._kernel_shape() != self.kernel_shape_:
            raise ValueError(
                f"kernel_size={self.kernel_size} differs from that of the fitted filters, "
                f"{self.kernel_shape_}; training goes on only with the same."
            )

    def _kernel_shape(self):
        size = self.kernel_size
        sizes = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
        if len(sizes) != 2 or any(not isinstance(n, Integral) or n < 1 for n in sizes):
            raise ValueError(
                f"kernel_size must be a positive integer or two of them; got {size!r}."
            )
        return tuple(min(k, side) for k, side in zip(sizes, self.encoding_.sides))

    def _unpooled_shape(self):
        """Filters, height and width of the maps."""
        pairs = zip(self.encoding_.sides, self._kernel_shape())
        return self.n_components, *((side - k) // self.stride + 1 for side, k in pairs)

    @property
    def kernel_shape_(self):
        """Height and width of a filter."""
        return self.components_.shape[2:]

    @property
    def maps_shape_(self):
        """Filters, height and width of the maps that `transform` gives, pooled if they are."""
        check_is_fitted(self)
        n_filters, *sides = self._unpooled_shape()
        return n_filters, *(-(-side // (self.pool_size or 1)) for side in sides)

    @property
    def _n_features_out(self):
        return math.prod(self.maps_shape_)

    def transform_maps(self, X):
        """The features of :meth:`transform`, as maps.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, *image_shape_)

        Returns
        -------
        maps : ndarray of shape (n_samples, n_components, height, width)
            What each filter finds, and where: E[h | v], or where it is pooled, the probability
            that a unit of the block is 1.
        """
        features = self.transform(X)
        return features.reshape(len(features), *self.maps_shape_)
