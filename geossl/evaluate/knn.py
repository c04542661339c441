"""k-nearest-neighbor probe of frozen embeddings."""

from __future__ import annotations

import torch

from geossl.embeddings import Embeddings
from geossl.evaluate import metrics
from geossl.evaluate.results import ProbeResult, classification_result
from geossl.evaluate.splits import Split, labeled_rows, require_finite
from geossl.utils.device import select_device
from geossl.utils.validate import Positive, PositiveInt, Seed, validated


@validated
def knn(
    embeddings: Embeddings,
    *,
    label: str = "label",
    split: Split = "column",
    test_split: str = "test",
    block_deg: Positive = 10.0,
    k: PositiveInt = 20,
    device: str = "cpu",
    seed: Seed = 0,
) -> ProbeResult:
    """Measure a k-nearest-neighbor classifier of frozen embeddings on held-out locations.

    Cosine similarity; ``k`` neighbors vote as in `geossl.evaluate.metrics.knn_votes`. The other
    arguments and errors are those of `linear`.
    """
    target_device = select_device(device)
    require_finite(embeddings)
    rows = labeled_rows(
        embeddings.scenes, label, split=split, test_split=test_split, block_deg=block_deg, seed=seed
    )
    x = embeddings.tensor().to(target_device)
    codes = torch.from_numpy(rows.codes).to(target_device)
    votes = metrics.knn_votes(x[rows.train], codes[rows.train], x[rows.test], k=k).cpu().double()
    shares = (votes / votes.sum(1, keepdim=True)).numpy()[:, rows.trained]
    return classification_result(
        f"kNN (k = {k}) top-1", rows, rows.probabilities(shares), {}, seed=seed
    )
