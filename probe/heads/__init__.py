"""The table of heads: features in, class probabilities out.

A row names its code lazily. Adding a head is one row here and one file beside it.
"""

from __future__ import annotations

from probe.heads.head import HeadRow
from probe.registry import Registry

HEADS: Registry[HeadRow] = Registry(
    "head",
    [
        HeadRow(
            name="logreg",
            fitter="probe.heads.logreg:fit",
            options="probe.heads.logreg:LogregOptions",
            head="probe.heads.logreg:LogregHead",
            refits=True,
            note="multinomial logistic regression, C chosen on validation",
            steps="fits",
            memory="probe.heads.logreg:held_bytes",
            spare="probe.heads.logreg:spare_bytes",
        ),
        HeadRow(
            name="ridge",
            fitter="probe.heads.ridge:fit",
            options="probe.heads.ridge:RidgeOptions",
            head="probe.heads.ridge:RidgeHead",
            refits=True,
            note="ridge regression on ±1 targets, the whole path of alpha from one decomposition",
            memory="probe.heads.ridge:held_bytes",
        ),
        HeadRow(
            name="knn",
            fitter="probe.heads.knn:fit",
            options="probe.heads.knn:KnnOptions",
            head="probe.heads.knn:KnnHead",
            refits=True,
            note="k nearest neighbours, exact, cosine or Euclidean, k chosen on validation",
            memory="probe.heads.knn:held_bytes",
        ),
        HeadRow(
            name="dense",
            fitter="probe.heads.dense:fit",
            options="probe.heads.dense:DenseOptions",
            head="probe.heads.dense:DenseHead",
            refits=False,
            note="hidden dense layers trained by Keras with early stopping",
            steps="epochs",
            memory="probe.heads.dense:held_bytes",
        ),
        HeadRow(
            name="conv",
            fitter="probe.heads.conv:fit",
            options="probe.heads.conv:ConvOptions",
            head="probe.heads.conv:ConvHead",
            refits=False,
            note="a convolutional network on a stored feature map (NAME:map), trained by Keras",
            steps="epochs",
            needs_map=True,
            memory="probe.heads.training:held_bytes",
        ),
        HeadRow(
            name="attentive",
            fitter="probe.heads.attentive:fit",
            options="probe.heads.attentive:AttentiveOptions",
            head="probe.heads.attentive:AttentiveHead",
            refits=False,
            note="attention pooling over a stored token map (NAME:map), then a softmax, trained by Keras",
            steps="epochs",
            needs_map=True,
            memory="probe.heads.training:held_bytes",
        ),
        HeadRow(
            name="centroid",
            fitter="probe.heads.centroid:fit",
            options="probe.heads.centroid:CentroidOptions",
            head="probe.heads.centroid:CentroidHead",
            refits=True,
            note="nearest class mean",
        ),
        HeadRow(
            name="majority",
            fitter="probe.heads.majority:fit",
            options="probe.heads.majority:MajorityOptions",
            head="probe.heads.majority:MajorityHead",
            refits=True,
            note="the most frequent class, whatever the image: the floor under every other figure",
        ),
    ],
)
