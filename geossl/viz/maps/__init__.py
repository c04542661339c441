"""Interactive maps in one HTML file each, which open without a network."""

from geossl.viz.maps.clusters import map_clusters
from geossl.viz.maps.points import map_embeddings, map_neighbors, map_probe, map_scenes

__all__ = ["map_clusters", "map_embeddings", "map_neighbors", "map_probe", "map_scenes"]
