"""Interactive maps in one HTML file each, which open without a network."""

from geossl.viz.maps.maps import (
    map_clusters,
    map_embeddings,
    map_neighbors,
    map_probe,
    map_scenes,
)

__all__ = ["map_clusters", "map_embeddings", "map_neighbors", "map_probe", "map_scenes"]
