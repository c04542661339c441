"""Interactive maps in one HTML file each, which open without a network.

All take a chip ``store`` whose row i is row i of the table, so that popups show chips (up to 2,000
locations), and ``tiles``, an online base layer; where it cannot be reached, or when it is None, the
built-in one is shown.
"""

from geossl.viz.maps.clusters import map_clusters
from geossl.viz.maps.points import map_embeddings, map_neighbors, map_probe, map_scenes

__all__ = ["map_clusters", "map_embeddings", "map_neighbors", "map_probe", "map_scenes"]
